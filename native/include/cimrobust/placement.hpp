#pragma once

#include <cstdint>
#include <span>

namespace cimrobust {

/// Rounds weights to levels: nominal = sign(w) * scale * round(|w| / scale), halves to even, at most max_level levels.
///
/// values, nominal: n weights. group: n indices into scale, or empty when there is one. A group of scale 0 holds zeros only.
/// Divides and multiplies in double, rounds the product to float once.
void quantise(std::span<const float> values, std::span<const std::int32_t> group, std::span<const double> scale, std::int32_t max_level,
              std::span<float> nominal);

/// Writes the tolerance box of every weight: the bounds of its group, mirrored for negative weights where asked.
///
/// nominal, lo, hi: n values. group: n indices into group_lo and group_hi, or empty when there is one.
void emit_box(std::span<const float> nominal, std::span<const std::int32_t> group, std::span<const float> group_lo,
              std::span<const float> group_hi, bool mirrors_negative, std::span<float> lo, std::span<float> hi);

}  // namespace cimrobust
