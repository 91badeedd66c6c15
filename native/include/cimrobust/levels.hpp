#pragma once

#include <cstdint>
#include <span>

namespace cimrobust {

/// How the level of a weight is spread over its devices.
struct LevelCoding {
    /// Devices of one sign that hold a weight.
    int num_slices = 1;
    /// Slice j holds the bits from bits_per_device * j on.
    int bits_per_device = 1;
    /// The magnitude is in the slices of one device of a pair, positive ones first; the other device is idle at level 0.
    bool is_pair = false;
    /// The deviation of a negative weight counts negative (sign-magnitude coding).
    bool mirrors_negative = false;
    /// Largest magnitude of a level, 2^M - 1.
    std::uint32_t max_level = 1;
    /// Added to the signed level (offset coding); 0 for the others, whose slices hold the magnitude.
    std::uint32_t level_offset = 0;
    /// Weights need not be whole levels: what is left after rounding belongs to slice 0 of the device in use.
    bool has_remainder = false;

    int num_devices() const { return num_slices * (is_pair ? 2 : 1); }
};

/// Scales below this are taken as this where a weight is divided by its scale; all weights of scale zero are zero.
inline constexpr float kSmallestScale = 0x1p-126F;

/// Writes the tolerance box of every weight when the bounds of a device depend on the level it holds.
///
/// Bounds add up over slices as scale * sum_j 2^(K j) * [level_lo, level_hi] at the level of slice j, minus the interval of the negative
/// device of a pair, mirrored for negative weights where the coding says so; computed in double, rounded to float once, towards zero.
///
/// nominal, lo, hi: n values. group: n indices into scale, or empty when there is one. level_lo, level_hi: 2^K bounds, in level units.
void emit_level_box(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const double> scale,
                    std::span<const double> level_lo, std::span<const double> level_hi, const LevelCoding& coding, std::span<float> lo,
                    std::span<float> hi);

/// Writes the target level of every device, device by device: coding.num_devices() rows of n values.
void emit_levels(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const float> scale,
                 const LevelCoding& coding, std::span<float> levels);

}  // namespace cimrobust
