#pragma once

// The programming loop for devices whose level matters, over a type of lanes; see program_body.hpp.

#include "program_body.hpp"

namespace cimrobust {
namespace {

/// How the weights of a block are stored.
template <class Lanes>
struct LaneLevels {
    /// Level in the slices of the (positive) device, then of the negative one.
    typename Lanes::Int level[2];
    /// What is left of the weight after rounding, in levels; it belongs to slice 0.
    typename Lanes::Float remainder[2];
};

template <class Lanes>
inline typename Lanes::Int select(typename Lanes::Int mask, typename Lanes::Int yes, typename Lanes::Int no) {
    return Lanes::bit_xor(no, Lanes::bit_and(mask, Lanes::bit_xor(yes, no)));
}

template <class Lanes>
inline typename Lanes::Float selectf(typename Lanes::Int mask, typename Lanes::Float yes, typename Lanes::Float no) {
    return Lanes::from_bits(select<Lanes>(mask, Lanes::bits(yes), Lanes::bits(no)));
}

template <class Lanes>
inline LaneLevels<Lanes> levels_of(typename Lanes::Float nominal, typename Lanes::Float scale, const LevelCoding& coding) {
    const auto bits = Lanes::bits(nominal);
    const auto magnitude = Lanes::from_bits(Lanes::bit_and(bits, Lanes::set(0x7FFFFFFFU)));
    const auto ratio = Lanes::minf(Lanes::divf(magnitude, Lanes::maxf(scale, Lanes::setf(kSmallestScale))),
                                   Lanes::setf(static_cast<float>(coding.max_level)));
    const auto level = Lanes::to_int(ratio);
    const auto zero = Lanes::setf(0.0F);
    const auto remainder = coding.has_remainder ? Lanes::subf(ratio, Lanes::to_float(level)) : zero;
    const auto negative = Lanes::top_bit_mask(bits);
    const auto nothing = Lanes::set(0);
    if (coding.is_pair) {
        return {{select<Lanes>(negative, nothing, level), select<Lanes>(negative, level, nothing)},
                {selectf<Lanes>(negative, zero, remainder), selectf<Lanes>(negative, remainder, zero)}};
    }
    if (coding.level_offset != 0) {
        // offset - level is offset + ~level + 1.
        const auto turned = Lanes::add(Lanes::bit_xor(level, negative), Lanes::bit_and(negative, Lanes::set(1)));
        const auto sign = Lanes::bit_and(negative, Lanes::set(0x80000000U));
        return {{Lanes::add(turned, Lanes::set(coding.level_offset)), nothing},
                {Lanes::from_bits(Lanes::bit_xor(Lanes::bits(remainder), sign)), zero}};
    }
    return {{level, nothing}, {remainder, zero}};
}

template <class Lanes>
inline void draw_words(typename Lanes::Int (&words)[4], std::size_t first_weight, int block, std::uint64_t key, std::uint64_t trial) {
    words[0] = Lanes::ramp(static_cast<std::uint32_t>(first_weight));
    words[1] = Lanes::set(static_cast<std::uint32_t>(block));
    words[2] = Lanes::set(static_cast<std::uint32_t>(trial));
    words[3] = Lanes::set(static_cast<std::uint32_t>(trial >> 32));
    philox_lanes<Lanes>(words, key);
}

/// Programs the weights [begin, begin + kWidth), device by device.
///
/// Longer than most: the sum, the stuck mask and the stores share one pass over the random words.
template <class Lanes>
inline void levels_block(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream, std::size_t begin,
                         const LevelOutput& output) {
    const LevelCoding& coding = spec.coding;
    const auto nominal = Lanes::load(layer.nominal.data() + begin);
    const auto scale = layer.group.empty() ? Lanes::setf(layer.scale[0])
                                           : Lanes::gather(layer.scale.data(), Lanes::load_index(layer.group.data() + begin));
    const auto stored = levels_of<Lanes>(nominal, scale, coding);
    const auto digit_mask = Lanes::set((std::uint32_t{1} << coding.bits_per_device) - 1U);
    const bool has_faults = spec.faults.any();
    auto sum = Lanes::setf(0.0F);
    auto stuck = Lanes::set(0);
    for (int block = 0; block * 4 < coding.num_devices(); ++block) {
        typename Lanes::Int words[4];
        typename Lanes::Int fault_words[4] = {stuck, stuck, stuck, stuck};
        draw_words<Lanes>(words, begin, block, stream.key, stream.trial);
        if (has_faults) {
            draw_words<Lanes>(fault_words, begin, block, spec.faults.key, stream.trial);
        }
        for (int word = 0; word < 4 && block * 4 + word < coding.num_devices(); ++word) {
            const int device = block * 4 + word;
            const int side = device >= coding.num_slices ? 1 : 0;
            const int slice = device - side * coding.num_slices;
            const auto digit = Lanes::bit_and(Lanes::shift_right_by(stored.level[side], coding.bits_per_device * slice), digit_mask);
            auto first = Lanes::set(kOnlyTable);
            if (table.num_tables() > 1) {
                first = Lanes::add(first, Lanes::multiply_low(digit, static_cast<std::uint32_t>(QuantileTable::kSize)));
            }
            auto deviation = quantile<Lanes>(words[word], table, first);
            auto target = Lanes::to_float(digit);
            if (slice == 0) {
                target = Lanes::addf(target, stored.remainder[side]);
            }
            if (has_faults) {
                const auto all = Lanes::set(0xFFFFFFFFU);
                const auto low = Lanes::less_mask(fault_words[word], spec.faults.low_below);
                const auto high = Lanes::less_mask(Lanes::bit_xor(fault_words[word], all), spec.faults.high_above);
                deviation = selectf<Lanes>(high, Lanes::subf(Lanes::setf(spec.faults.high_level), target), deviation);
                deviation = selectf<Lanes>(low, Lanes::subf(Lanes::setf(0.0F), target), deviation);
                stuck = select<Lanes>(stuck, stuck, select<Lanes>(low, low, high));
            }
            if (!output.devices.empty()) {
                float* row = output.devices.data() + static_cast<std::size_t>(device) * layer.nominal.size();
                Lanes::store(row + begin, Lanes::addf(target, deviation));
            }
            const auto part = Lanes::mulf(Lanes::setf(slice_weight(coding.bits_per_device, slice)), deviation);
            sum = side == 1 ? Lanes::subf(sum, part) : Lanes::addf(sum, part);
        }
    }
    if (output.programmed.empty()) {
        return;
    }
    auto deviation = Lanes::mulf(scale, sum);
    if (coding.mirrors_negative) {
        const auto sign = Lanes::bit_and(Lanes::top_bit_mask(Lanes::bits(nominal)), Lanes::set(0x80000000U));
        deviation = Lanes::from_bits(Lanes::bit_xor(Lanes::bits(deviation), sign));
    }
    if (spec.clamps) {
        const auto kept = Lanes::minf(Lanes::maxf(deviation, Lanes::load(layer.lo.data() + begin)), Lanes::load(layer.hi.data() + begin));
        deviation = selectf<Lanes>(stuck, deviation, kept);
    }
    Lanes::store(output.programmed.data() + begin, Lanes::addf(nominal, deviation));
}

template <class Lanes>
inline void levels_all(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream,
                       const LevelOutput& output) {
    const std::size_t size = layer.nominal.size();
    std::size_t begin = 0;
    for (; begin + Lanes::kWidth <= size; begin += Lanes::kWidth) {
        levels_block<Lanes>(layer, spec, table, stream, begin, output);
    }
    for (; begin < size; ++begin) {
        levels_block<ScalarLanes>(layer, spec, table, stream, begin, output);
    }
}

}  // namespace
}  // namespace cimrobust
