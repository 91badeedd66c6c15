#pragma once

// The programming loop, written once over a type of lanes. Each instruction set includes this file in a source of its own, with its own
// flags; everything sits in an unnamed namespace so that no wide instruction can be linked into a narrow path.

#include <cstdint>

#include "cimrobust/philox.hpp"
#include "cimrobust/program.hpp"
#include "quantile.hpp"
#include "scalar_lanes.hpp"

namespace cimrobust {
namespace {

inline float slice_weight(int bits_per_device, int slice) { return static_cast<float>(std::uint32_t{1} << (bits_per_device * slice)); }

/// Four random words a lane for one counter a lane: `philox` of philox.hpp, round by round, the same bits.
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
