#pragma once

#include <cstddef>
#include <cstdint>

#include "cimrobust/crossbar.hpp"
#include "crossbar/block.hpp"
#include "crossbar/coding.hpp"
#include "sizes.hpp"

namespace cimrobust {
namespace {

// Totals and input panels of one round should stay in a core's second-level cache.
inline constexpr std::size_t kTotalFloats = std::size_t{1} << 16;
inline constexpr std::size_t kPanelFloats = std::size_t{1} << 15;

/// Vectors (output positions) of one round, a multiple of `step`.
inline std::size_t vectors_per_round(std::size_t cols, std::size_t panel_rows, std::size_t step, std::size_t available) {
    const std::size_t fitting = smaller(kTotalFloats / larger(cols, std::size_t{1}), kPanelFloats / larger(panel_rows, std::size_t{1}));
    return smaller(larger(fitting / step * step, step), rounded_up(available, step));
}

/// One round of a product: `count` vectors (output positions) of one group through the array.
struct Round {
    const PackedArray& array;
    const InputCoding& input;
    /// gain and inverse_step: planes * row tiles * groups * group_cols.
    const OutputCoding& output;
    const ReadNoise& noise;
    /// Columns of one group in gain and inverse_step, padding included.
    std::size_t group_cols;
    /// Totals of the round; columns on rows: one row a column, else one row a vector.
    float* totals;
    /// Values from one row of totals to the next.
    std::size_t total_stride;
    std::size_t group;
    /// Number of the first vector of the round, through all calls.
    std::uint64_t first_vector;
    /// Vectors of the round.
    std::size_t count;
};

/// Puts the vectors of a round through one block of columns of one tile and plane, pass by pass.
///
/// depth: word lines of the tile. panel(pass, at): digits of the vectors from `at` on, a register block of them, word line by word line.
template <class Lanes, ColumnSide kSide, class Panel>
inline void multiply_block(const Round& round, std::size_t tile, std::size_t plane, std::size_t block, std::size_t depth, Panel panel) {
    using Blocks = Block<Lanes, kSide>;
    constexpr bool kColumnsOnRows = kSide == ColumnSide::kRows;
    constexpr std::size_t kRows = Blocks::kRows;
    constexpr std::size_t kBlockCols = kColumnsOnRows ? kRows : Blocks::kLanes;
    constexpr std::size_t kBlockVectors = kColumnsOnRows ? Blocks::kLanes : kRows;
    const ArrayShape& shape = round.array.shape;
    const auto passes = static_cast<std::size_t>(round.input.num_passes);
    const std::size_t first_col = block * kBlockCols;
    const std::size_t cols = smaller(kBlockCols, shape.cols - first_col);
    const std::size_t cells = round.array.offset(round.group, tile, plane, block);
    const std::size_t coding = ((plane * shape.num_row_tiles() + tile) * shape.groups + round.group) * round.group_cols + first_col;
    NoiseArgs noise{};
    BlockArgs args{};
    (kColumnsOnRows ? args.a : args.b) = round.array.levels.data() + cells;
    args.b_stride = Blocks::kLanes;
    args.depth = depth;
    args.gain = round.output.gain.data() + coding;
    args.inverse_step = round.output.inverse_step.empty() ? nullptr : round.output.inverse_step.data() + coding;
    args.low = round.output.low;
    args.high = round.output.high;
    args.total_stride = round.total_stride;
    if (round.noise.is_on) {
        noise.variances = round.array.variances.data() + cells;
        noise.table = &round.noise.table;
        noise.key = round.noise.key;
        noise.first_col = static_cast<std::uint32_t>(round.group * shape.cols + first_col);
        args.noise = &noise;
    }
    for (std::size_t at = 0; at < round.count; at += kBlockVectors) {
        const std::size_t vectors = smaller(kBlockVectors, round.count - at);
        const std::size_t lanes = kColumnsOnRows ? vectors : cols;
        const auto function = Blocks::of(kColumnsOnRows ? cols : vectors, lanes);
        args.total = round.totals + (kColumnsOnRows ? first_col * round.total_stride + at : at * round.total_stride + first_col);
        noise.num_lanes = lanes;
        noise.first_vector = round.first_vector + at;
        for (std::size_t pass = 0; pass < passes; ++pass) {
            (kColumnsOnRows ? args.b : args.a) = panel(pass, at);
            args.pass_weight = power_of_two(static_cast<int>(pass) * round.input.bits_per_pass);
            args.is_first = tile == 0 && plane == 0 && pass == 0;
            noise.stage = static_cast<std::uint32_t>((tile * shape.planes + plane) * passes + pass);
            function(args);
        }
    }
}

}  // namespace
}  // namespace cimrobust
