#include "cimrobust/placement.hpp"

#include <cmath>
#include <cstddef>

namespace cimrobust {

namespace {

std::size_t group_of(std::span<const std::int32_t> group, std::size_t index) {
    return group.empty() ? 0 : static_cast<std::size_t>(group[index]);
}

}  // namespace

void quantise(std::span<const float> values, std::span<const std::int32_t> group, std::span<const double> scale, std::int32_t max_level,
              std::span<float> nominal) {
    const auto highest = static_cast<double>(max_level);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double step = scale[group_of(group, i)];
        const double magnitude = std::fabs(static_cast<double>(values[i]));
        const double level = step > 0.0 ? std::fmin(std::nearbyint(magnitude / step), highest) : 0.0;
        // Zero weights are stored as +0, so that their device deviates upwards for a positive deviation.
        nominal[i] = level == 0.0 ? 0.0F : static_cast<float>(std::copysign(step * level, static_cast<double>(values[i])));
    }
}

void emit_box(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const float> group_lo,
              std::span<const float> group_hi, bool mirrors_negative, std::span<float> lo, std::span<float> hi) {
    for (std::size_t i = 0; i < nominal.size(); ++i) {
        const std::size_t index = group_of(group, i);
        const bool mirrored = mirrors_negative && std::signbit(nominal[i]);
        lo[i] = mirrored ? -group_hi[index] : group_lo[index];
        hi[i] = mirrored ? -group_lo[index] : group_hi[index];
    }
}

}  // namespace cimrobust
