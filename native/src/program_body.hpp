#pragma once

// The programming loop, written once over a type of lanes. Each instruction set includes this file in a source of its own, with its own
// flags; everything sits in an unnamed namespace so that no wide instruction can be linked into a narrow path.

#include <bit>
#include <cmath>
#include <cstdint>

#include "cimrobust/philox.hpp"
#include "cimrobust/program.hpp"

namespace cimrobust {
namespace {

inline float slice_weight(int bits_per_device, int slice) { return static_cast<float>(std::uint32_t{1} << (bits_per_device * slice)); }

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

/// Four random words a lane for one counter a lane.
template <class Lanes>
inline void philox_lanes(typename Lanes::Int (&counter)[4], std::uint64_t key) {
    auto key0 = static_cast<std::uint32_t>(key);
    auto key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        typename Lanes::Int high0, low0, high1, low1;
        Lanes::multiply(counter[0], kPhiloxM0, high0, low0);
        Lanes::multiply(counter[2], kPhiloxM1, high1, low1);
        counter[0] = Lanes::bit_xor(Lanes::bit_xor(high1, counter[1]), Lanes::set(key0));
        counter[1] = low1;
        counter[2] = Lanes::bit_xor(Lanes::bit_xor(high0, counter[3]), Lanes::set(key1));
        counter[3] = low0;
        key0 += kPhiloxW0;
        key1 += kPhiloxW1;
    }
}

/// Deviation of one device a lane, in level units, from 32 random bits. first: where the lane's table begins.
template <class Lanes>
inline typename Lanes::Float quantile(typename Lanes::Int word, const QuantileTable& table, typename Lanes::Int first) {
    const auto upper = Lanes::top_bit_mask(word);
    const auto distance = Lanes::bit_and(Lanes::bit_xor(word, upper), Lanes::set(0x7FFFFFFFU));
    const auto bits = Lanes::bits(Lanes::addf(Lanes::to_float(distance), Lanes::setf(0.5F)));
    const auto half = Lanes::bit_and(upper, Lanes::set(static_cast<std::uint32_t>(QuantileTable::kHalfSize)));
    const auto segment = Lanes::add(Lanes::add(Lanes::template shift_right<QuantileTable::kShift>(bits), half), first);
    constexpr std::uint32_t kPlaceMask = (1U << QuantileTable::kShift) - 1U;
    const auto place = Lanes::mulf(Lanes::to_float(Lanes::bit_and(bits, Lanes::set(kPlaceMask))),
                                   Lanes::setf(1.0F / static_cast<float>(1U << QuantileTable::kShift)));
    return Lanes::addf(Lanes::gather(table.knots.data(), segment), Lanes::mulf(Lanes::gather(table.slopes.data(), segment), place));
}

/// Where the only table begins, less the segment number of the smallest distance.
constexpr std::uint32_t kOnlyTable = 0U - QuantileTable::kFirstSegment;

/// Sum of the device deviations of one weight a lane, each times the weight of its slice.
template <class Lanes>
inline typename Lanes::Float fold_devices(std::uint64_t first_weight, const ProgramSpec& spec, const QuantileTable& table,
                                          StreamKey stream) {
    const int num_devices = spec.num_slices * (spec.is_pair ? 2 : 1);
    auto sum = Lanes::setf(0.0F);
    for (int block = 0; block * 4 < num_devices; ++block) {
        // A layer has fewer than 2^32 weights, so the counter's second word is free for the block of four devices.
        typename Lanes::Int words[4] = {Lanes::ramp(static_cast<std::uint32_t>(first_weight)),
                                        Lanes::set(static_cast<std::uint32_t>(block)), Lanes::set(static_cast<std::uint32_t>(stream.trial)),
                                        Lanes::set(static_cast<std::uint32_t>(stream.trial >> 32))};
        philox_lanes<Lanes>(words, stream.key);
        for (int word = 0; word < 4 && block * 4 + word < num_devices; ++word) {
            const int device = block * 4 + word;
            const bool negative = device >= spec.num_slices;
            const auto factor = Lanes::setf(slice_weight(spec.bits_per_device, negative ? device - spec.num_slices : device));
            const auto part = Lanes::mulf(factor, quantile<Lanes>(words[word], table, Lanes::set(kOnlyTable)));
            sum = negative ? Lanes::subf(sum, part) : Lanes::addf(sum, part);
        }
    }
    return sum;
}

/// Programs the weights [begin, begin + kWidth).
template <class Lanes>
inline void program_block(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream,
                          std::size_t begin, std::span<float> programmed) {
    const auto sum = fold_devices<Lanes>(begin, spec, table, stream);
    const auto nominal = Lanes::load(layer.nominal.data() + begin);
    auto scale = Lanes::setf(layer.scale[0]);
    auto lo = Lanes::setf(layer.lo[0]);
    auto hi = Lanes::setf(layer.hi[0]);
    if (!layer.group.empty()) {
        const auto group = Lanes::load_index(layer.group.data() + begin);
        scale = Lanes::gather(layer.scale.data(), group);
        lo = Lanes::gather(layer.lo.data(), group);
        hi = Lanes::gather(layer.hi.data(), group);
    }
    auto deviation = Lanes::mulf(scale, sum);
    if (spec.clamps) {
        deviation = Lanes::minf(Lanes::maxf(deviation, lo), hi);
    }
    if (spec.mirrors_negative) {
        const auto sign = Lanes::bit_and(Lanes::top_bit_mask(Lanes::bits(nominal)), Lanes::set(0x80000000U));
        deviation = Lanes::from_bits(Lanes::bit_xor(Lanes::bits(deviation), sign));
    }
    Lanes::store(programmed.data() + begin, Lanes::addf(nominal, deviation));
}

template <class Lanes>
inline void program_all(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream,
                        std::span<float> programmed) {
    const std::size_t size = layer.nominal.size();
    std::size_t begin = 0;
    for (; begin + Lanes::kWidth <= size; begin += Lanes::kWidth) {
        program_block<Lanes>(layer, spec, table, stream, begin, programmed);
    }
    for (; begin < size; ++begin) {
        program_block<ScalarLanes>(layer, spec, table, stream, begin, programmed);
    }
}

}  // namespace
}  // namespace cimrobust
