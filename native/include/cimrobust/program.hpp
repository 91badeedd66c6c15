#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cimrobust/levels.hpp"

namespace cimrobust {

/// Quantile function of one device's deviation, in level units, at probabilities that get denser towards both ends.
///
/// A 32-bit random word u picks a half by its top bit and a distance m in [0, 2^31) from that end. The float m + 0.5 is read as exponent
/// and mantissa: its exponent and its top kSegmentBits mantissa bits are the segment, the other mantissa bits the place in it. So a segment
/// is 1/64 of an octave of probability, and tails keep their shape down to probabilities of 1e-10.
///
/// knots, slopes: kHalfSize values for the lower half, then kHalfSize for the upper; the value is knots[i] + slopes[i] * place, place in
/// [0, 1). Where the deviation depends on the level that a device holds, one such table follows the other, a table a level.
struct QuantileTable {
    static constexpr int kSegmentBits = 6;
    static constexpr int kShift = 23 - kSegmentBits;
    /// Bits of the float 0.5, the smallest distance, shifted down to a segment number.
    static constexpr std::uint32_t kFirstSegment = 0x3F000000U >> kShift;
    /// 32 octaves from 0.5 to 2^31, and the knot that ends the last.
    static constexpr std::size_t kHalfSize = (std::size_t{32} << kSegmentBits) + 1;
    static constexpr std::size_t kSize = 2 * kHalfSize;

    std::size_t num_tables() const { return knots.size() / kSize; }

    /// Deviations at the segments' beginnings, in level units.
    std::span<const float> knots;
    /// What they rise by through a segment, same layout.
    std::span<const float> slopes;
};

/// How the devices of one weight make its deviation.
struct ProgramSpec {
    /// Devices of one sign that hold a weight.
    int num_slices = 1;
    /// Weight of slice j is 2^(bits_per_device * j).
    int bits_per_device = 1;
    /// Both devices of a pair deviate: slices of the positive device first, then of the negative one.
    bool is_pair = false;
    /// The deviation of a negative weight counts negative (sign-magnitude coding).
    bool mirrors_negative = false;
    /// Deviations are kept within [lo, hi].
    bool clamps = true;
};

/// One layer's weights and what scales their deviations, per scale group.
struct ProgramLayer {
    /// n weights, in weight units.
    std::span<const float> nominal;
    /// n indices into the other three, or empty when there is one group.
    std::span<const std::int32_t> group;
    /// Weight units a level, one a group.
    std::span<const float> scale;
    /// Least deviation of a non-negative weight, in weight units, one a group; mirrored for negative weights where the spec says so.
    std::span<const float> lo;
    /// Greatest deviation, likewise.
    std::span<const float> hi;
};

/// What a draw is keyed by, beside the index of the weight and of the device in it.
struct StreamKey {
    /// Key of the stream, of seed and layer.
    std::uint64_t key = 0;
    /// Number of the chip.
    std::uint64_t trial = 0;
};

/// Devices that cannot be programmed: they sit at a level of their own instead of deviating.
///
/// Drawn from a stream of their own, a word a device: below `low_below` it is stuck low, and at or above 2^32 - `high_above` stuck high.
struct Faults {
    /// Key of the stream of faults.
    std::uint64_t key = 0;
    /// Probability of stuck low, in 2^-32.
    std::uint32_t low_below = 0;
    /// Probability of stuck high, in 2^-32.
    std::uint32_t high_above = 0;
    /// Level at which a device stuck high is read; stuck low reads 0.
    float high_level = 0.0F;

    bool any() const { return low_below != 0 || high_above != 0; }
};

/// One layer's weights, for devices whose level matters: as ProgramLayer, but with bounds per weight.
struct LevelLayer {
    /// n weights, in weight units.
    std::span<const float> nominal;
    /// n indices into scale, or empty when there is one.
    std::span<const std::int32_t> group;
    /// Weight units a level, one a group.
    std::span<const float> scale;
    /// Least deviation of every weight, in weight units, n values; not read unless the spec clamps.
    std::span<const float> lo;
    /// Greatest deviation, likewise.
    std::span<const float> hi;
};

/// How the devices of one weight make it when their level matters.
struct LevelSpec {
    LevelCoding coding;
    /// Weights without a stuck device are kept within [lo, hi].
    bool clamps = true;
    Faults faults;
};

/// Where a drawn chip goes; empty spans are not written.
struct LevelOutput {
    /// n weights, in weight units.
    std::span<float> programmed;
    /// coding.num_devices() rows of n device levels, slices of the positive device first.
    std::span<float> devices;
};

enum class Simd { kScalar, kAvx2, kAvx512 };

/// Widest instruction set that this processor has and this build knows.
Simd best_simd();

/// Programs the devices of one layer once and folds them into weights.
///
/// programmed: n values, may not overlap the inputs. The result is a function of the arguments alone: the same bits on every instruction
/// set. Allocates nothing; safe from many threads.
void program_weights(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream, Simd simd,
                     std::span<float> programmed);

/// As program_weights, for devices whose deviation depends on their level or that may be stuck; draws the same words for the same stream.
///
/// table: one for all levels, or one a level, 2^bits_per_device of them.
void program_levels(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream, Simd simd,
                    const LevelOutput& output);

/// Writes the deviation of every device, in level units: num_weights rows of num_devices values.
void draw_deviations(std::size_t num_weights, std::size_t num_devices, const QuantileTable& table, StreamKey stream,
                     std::span<float> deviations);

namespace detail {

void program_scalar(const ProgramLayer&, const ProgramSpec&, const QuantileTable&, StreamKey, std::span<float>);
void program_avx2(const ProgramLayer&, const ProgramSpec&, const QuantileTable&, StreamKey, std::span<float>);
void program_avx512(const ProgramLayer&, const ProgramSpec&, const QuantileTable&, StreamKey, std::span<float>);

void levels_scalar(const LevelLayer&, const LevelSpec&, const QuantileTable&, StreamKey, const LevelOutput&);
void levels_avx2(const LevelLayer&, const LevelSpec&, const QuantileTable&, StreamKey, const LevelOutput&);
void levels_avx512(const LevelLayer&, const LevelSpec&, const QuantileTable&, StreamKey, const LevelOutput&);

}  // namespace detail

}  // namespace cimrobust
