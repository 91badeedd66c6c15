#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "buffer.hpp"
#include "cimrobust/crossbar.hpp"
#include "crossbar/coding.hpp"
#include "crossbar/rounds.hpp"
#include "sizes.hpp"

namespace cimrobust {
namespace {

/// Products of the vectors [begin, end).
template <class Lanes>
class VectorRounds {
   public:
    using Blocks = Block<Lanes, ColumnSide::kLanes>;
    static constexpr std::size_t kRows = Blocks::kRows;

    VectorRounds(const detail::VectorJob& job, std::size_t begin, std::size_t end)
        : job_(job), begin_(begin), end_(end), passes_(static_cast<std::size_t>(job.input.num_passes)),
          depth_(smaller(job.array.shape.tile_rows, job.array.shape.rows)), padded_cols_(rounded_up(job.array.shape.cols, Blocks::kLanes)),
          round_(vectors_per_round(padded_cols_, passes_ * depth_, kRows, end - begin)), panels_(passes_ * depth_ * round_),
          totals_(padded_cols_ * round_), row_(3 * depth_), sums_(round_) {}

    void run() {
        for (std::size_t group = 0; group < job_.array.shape.groups; ++group) {
            for (std::size_t first = begin_; first < end_; first += round_) {
                run_round(group, first, smaller(round_, end_ - first));
            }
        }
    }

   private:
    void run_round(std::size_t group, std::size_t first, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        std::memset(sums_.get(), 0, round_ * sizeof(float));
        const Round round{.array = job_.array,
                          .input = job_.input,
                          .output = job_.output,
                          .noise = job_.noise,
                          .group_cols = padded_cols_,
                          .totals = totals_.get(),
                          .total_stride = padded_cols_,
                          .group = group,
                          .first_vector = job_.noise.first_vector + first,
                          .count = count};
        const auto digits = [this](std::size_t pass, std::size_t at) { return panel(pass, at); };
        for (std::size_t tile = 0; tile < shape.num_row_tiles(); ++tile) {
            const std::size_t first_row = tile * shape.tile_rows;
            const std::size_t depth = smaller(shape.tile_rows, shape.rows - first_row);
            for (std::size_t i = 0; i < count; ++i) {
                pack(group, first_row, depth, first + i, i, count);
            }
            for (std::size_t block = 0; block < job_.array.num_blocks(); ++block) {
                for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                    multiply_block<Lanes, ColumnSide::kLanes>(round, tile, plane, block, depth, digits);
                }
            }
        }
        write(group, first, count);
    }

    /// Rows of the register block that holds vector `index` of a round of `count`.
    static std::size_t block_rows(std::size_t index, std::size_t count) { return smaller(kRows, count - index / kRows * kRows); }

    /// Digits of the register block of vectors that begins at `first_of_block` of the round.
    float* panel(std::size_t pass, std::size_t first_of_block) const { return panels_.get() + (pass * round_ + first_of_block) * depth_; }

    /// Codes one vector's activations of a tile and puts its digits side by side with those of its neighbours.
    void pack(std::size_t group, std::size_t first_row, std::size_t depth, std::size_t vector, std::size_t index, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const float* x = job_.x.data() + (vector * shape.groups + group) * shape.rows + first_row;
        float* levels = row_.get();
        float* rest = levels + depth_;
        float* digits = rest + depth_;
        code_levels<Lanes>(x, depth, job_.input, levels);
        const std::size_t stride = block_rows(index, count);
        const std::size_t place = index % kRows;
        for (std::size_t row = 0; row < depth; ++row) {
            rest[row] = std::fabs(levels[row]);
        }
        for (std::size_t pass = 0; pass < passes_; ++pass) {
            const float* from = levels;
            if (passes_ > 1) {
                take_digit(rest, levels, depth, job_.input.bits_per_pass, digits);
                from = digits;
            }
            float* to = panel(pass, index - place) + place;
            float sum = 0.0F;
            for (std::size_t row = 0; row < depth; ++row) {
                to[row * stride] = from[row];
                sum += from[row];
            }
            sums_.get()[index] = std::fma(sum, power_of_two(static_cast<int>(pass) * job_.input.bits_per_pass), sums_.get()[index]);
        }
    }

    /// Scales the totals of a round and writes them out.
    void write(std::size_t group, std::size_t first, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const float* scale = job_.output.column_scale.data() + group * shape.cols;
        const float* bias = job_.output.bias.data() + group * shape.cols;
        for (std::size_t i = 0; i < count; ++i) {
            float* total = totals_.get() + i * padded_cols_;
            float* y = job_.y.data() + (first + i) * shape.num_columns() + group * shape.cols;
            if (job_.output.input_sum_gain != 0.0F) {
                for (std::size_t col = 0; col < shape.cols; ++col) {
                    total[col] = std::fma(-job_.output.input_sum_gain, sums_.get()[i], total[col]);
                }
            }
            for (std::size_t col = 0; col < shape.cols; ++col) {
                y[col] = std::fma(total[col], scale[col], bias[col]);
            }
        }
    }

    const detail::VectorJob& job_;
    std::size_t begin_;
    std::size_t end_;
    std::size_t passes_;
    /// Word lines of the deepest tile.
    std::size_t depth_;
    /// Columns of a group, filled up to whole register blocks.
    std::size_t padded_cols_;
    /// Most vectors of a round, whole register blocks.
    std::size_t round_;
    /// Digits, a panel a pass and register block.
    Buffer<float> panels_;
    /// Totals: a row of padded_cols_ a vector.
    Buffer<float> totals_;
    /// Levels of one vector in a tile, what is left of them after the digits taken, and one pass of digits; depth_ each.
    Buffer<float> row_;
    /// Sum of all levels of every vector.
    Buffer<float> sums_;
};

}  // namespace
}  // namespace cimrobust
