#include "cimrobust/levels.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace cimrobust {

namespace {

/// Levels of the devices of one weight: the number in the slices of the (positive) device and of the negative one.
struct StoredLevels {
    std::uint32_t positive = 0;
    std::uint32_t negative = 0;
    float remainder_positive = 0.0F;
    float remainder_negative = 0.0F;
};

/// In float, as in the programming loop: both must find the same level.
StoredLevels stored_levels(float nominal, float scale, const LevelCoding& coding) {
    const float ratio = std::min(std::fabs(nominal) / std::max(scale, kSmallestScale), static_cast<float>(coding.max_level));
    const float rounded = std::nearbyint(ratio);
    const float remainder = coding.has_remainder ? ratio - rounded : 0.0F;
    const auto level = static_cast<std::uint32_t>(rounded);
    const bool negative = std::signbit(nominal);
    if (coding.is_pair) {
        return negative ? StoredLevels{0, level, 0.0F, remainder} : StoredLevels{level, 0, remainder, 0.0F};
    }
    if (coding.level_offset != 0) {
        return negative ? StoredLevels{coding.level_offset - level, 0, -remainder, 0.0F}
                        : StoredLevels{coding.level_offset + level, 0, remainder, 0.0F};
    }
    return {level, 0, remainder, 0.0F};
}

std::size_t group_of(std::span<const std::int32_t> group, std::size_t index) {
    return group.empty() ? 0 : static_cast<std::size_t>(group[index]);
}

std::uint32_t digit_of(std::uint32_t level, int slice, const LevelCoding& coding) {
    return (level >> (coding.bits_per_device * slice)) & ((std::uint32_t{1} << coding.bits_per_device) - 1U);
}

float toward_zero(double value) {
    const auto rounded = static_cast<float>(value);
    return std::fabs(static_cast<double>(rounded)) > std::fabs(value) ? std::nextafter(rounded, 0.0F) : rounded;
}

}  // namespace

void emit_level_box(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const double> scale,
                    std::span<const double> level_lo, std::span<const double> level_hi, const LevelCoding& coding, std::span<float> lo,
                    std::span<float> hi) {
    for (std::size_t i = 0; i < nominal.size(); ++i) {
        const double step = scale[group_of(group, i)];
        const StoredLevels stored = stored_levels(nominal[i], static_cast<float>(step), coding);
        double low = 0.0;
        double high = 0.0;
        for (int slice = 0; slice < coding.num_slices; ++slice) {
            const auto weight = static_cast<double>(std::uint32_t{1} << (coding.bits_per_device * slice));
            const std::size_t digit = digit_of(stored.positive, slice, coding);
            low += weight * level_lo[digit];
            high += weight * level_hi[digit];
            if (coding.is_pair) {
                const std::size_t other = digit_of(stored.negative, slice, coding);
                low -= weight * level_hi[other];
                high -= weight * level_lo[other];
            }
        }
        const bool mirrored = coding.mirrors_negative && std::signbit(nominal[i]);
        lo[i] = toward_zero(step * (mirrored ? -high : low));
        hi[i] = toward_zero(step * (mirrored ? -low : high));
    }
}

void emit_levels(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const float> scale,
                 const LevelCoding& coding, std::span<float> levels) {
    const std::size_t size = nominal.size();
    for (std::size_t i = 0; i < size; ++i) {
        const StoredLevels stored = stored_levels(nominal[i], scale[group_of(group, i)], coding);
        for (int device = 0; device < coding.num_devices(); ++device) {
            const bool negative = device >= coding.num_slices;
            const int slice = negative ? device - coding.num_slices : device;
            const float whole = static_cast<float>(digit_of(negative ? stored.negative : stored.positive, slice, coding));
            const float remainder = slice != 0 ? 0.0F : negative ? stored.remainder_negative : stored.remainder_positive;
            levels[static_cast<std::size_t>(device) * size + i] = whole + remainder;
        }
    }
}

}  // namespace cimrobust
