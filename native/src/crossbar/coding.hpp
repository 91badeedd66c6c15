#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "cimrobust/crossbar.hpp"

namespace cimrobust {
namespace {

inline float power_of_two(int exponent) { return std::ldexp(1.0F, exponent); }

/// Value between low and high.
///
/// The bound comes first: a comparison with NaN then hands the NaN on.
inline float clipped(float value, float low, float high) {
    const float above = low > value ? low : value;
    return high < above ? high : above;
}

/// Level of one activation.
inline float level_of(float x, const InputCoding& input) {
    if (!input.rounds) {
        return x;
    }
    return clipped(std::nearbyint(x * input.inverse_scale) + input.zero_point, input.low, input.high);
}

/// Levels of `count` activations that lie together.
template <class Lanes>
inline void code_levels(const float* x, std::size_t count, const InputCoding& input, float* levels) {
    if (!input.rounds) {
        std::memcpy(levels, x, count * sizeof(float));
        return;
    }
    const auto scale = Lanes::setf(input.inverse_scale);
    const auto zero = Lanes::setf(input.zero_point);
    const auto low = Lanes::setf(input.low);
    const auto high = Lanes::setf(input.high);
    std::size_t i = 0;
    for (; i + Lanes::kWidth <= count; i += Lanes::kWidth) {
        const auto rounded = Lanes::addf(Lanes::rint(Lanes::mulf(Lanes::load(x + i), scale)), zero);
        Lanes::store(levels + i, Lanes::minf(high, Lanes::maxf(low, rounded)));
    }
    for (; i < count; ++i) {
        levels[i] = level_of(x[i], input);
    }
}

/// Takes the lowest digit off `count` magnitudes: digits get it with the sign of the level, rest keeps the others.
inline void take_digit(float* rest, const float* levels, std::size_t count, int bits, float* digits) {
    const float down = power_of_two(-bits);
    const float up = power_of_two(bits);
    for (std::size_t i = 0; i < count; ++i) {
        const float higher = std::floor(rest[i] * down);
        digits[i] = std::copysign(rest[i] - higher * up, levels[i]);
        rest[i] = higher;
    }
}

}  // namespace
}  // namespace cimrobust
