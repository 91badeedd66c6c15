#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace cimrobust {
namespace {

/// One lane: plain C++.
struct ScalarLanes {
    static constexpr std::size_t kWidth = 1;
    using Int = std::uint32_t;
    using Float = float;

    static Int set(std::uint32_t value) { return value; }
    static Int ramp(std::uint32_t first) { return first; }
    static Float setf(float value) { return value; }
    static Float load(const float* from) { return *from; }
    static void store(float* to, Float value) { *to = value; }
    static Int load_index(const std::int32_t* from) { return static_cast<std::uint32_t>(*from); }
    static Int add(Int a, Int b) { return a + b; }
    static Int bit_xor(Int a, Int b) { return a ^ b; }
    static Int bit_and(Int a, Int b) { return a & b; }
    static void multiply(Int a, std::uint32_t b, Int& high, Int& low) {
        const std::uint64_t product = std::uint64_t{a} * b;
        high = static_cast<std::uint32_t>(product >> 32);
        low = static_cast<std::uint32_t>(product);
    }
    /// All ones where the top bit is set.
    static Int top_bit_mask(Int a) { return (a >> 31) != 0 ? 0xFFFFFFFFU : 0U; }
    template <int kCount>
    static Int shift_right(Int a) {
        return a >> kCount;
    }
    /// For values below 2^31.
    static Float to_float(Int a) { return static_cast<float>(static_cast<std::int32_t>(a)); }
    static Int bits(Float a) { return std::bit_cast<std::uint32_t>(a); }
    static Float from_bits(Int a) { return std::bit_cast<float>(a); }
    static Float gather(const float* base, Int index) { return base[index]; }
    static Float addf(Float a, Float b) { return a + b; }
    static Float subf(Float a, Float b) { return a - b; }
    static Float mulf(Float a, Float b) { return a * b; }
    static Float minf(Float a, Float b) { return a < b ? a : b; }
    static Float maxf(Float a, Float b) { return a > b ? a : b; }
    static Float divf(Float a, Float b) { return a / b; }
    static Int multiply_low(Int a, std::uint32_t b) { return a * b; }
    static Int shift_right_by(Int a, int count) { return a >> count; }
    /// To the nearest, halves to even; for values in [0, 2^31).
    static Int to_int(Float a) { return static_cast<std::uint32_t>(std::nearbyint(a)); }
    /// All ones where a < b.
    static Int less_mask(Int a, std::uint32_t b) { return a < b ? 0xFFFFFFFFU : 0U; }
};

}  // namespace
}  // namespace cimrobust
