#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "buffer.hpp"
#include "cimrobust/crossbar.hpp"
#include "crossbar/digit_planes.hpp"
#include "crossbar/rounds.hpp"
#include "sizes.hpp"

namespace cimrobust {
namespace {

/// Convolution of one piece of the batch. Its output positions are numbered through its images and taken a round at a time.
template <class Lanes>
class ConvRounds {
   public:
    using Blocks = Block<Lanes, ColumnSide::kRows>;

    ConvRounds(const detail::ConvJob& job, const detail::ConvPiece& piece)
        : job_(job), piece_(piece), planes_(job, piece), passes_(static_cast<std::size_t>(job.input.num_passes)),
          image_size_(planes_.outputs(0) * planes_.outputs(1) * planes_.outputs(2)), num_positions_(piece.num_images * image_size_),
          depth_(smaller(job.array.shape.tile_rows, job.array.shape.rows)),
          round_(vectors_per_round(job.array.shape.cols, passes_ * depth_, Blocks::kLanes, num_positions_)),
          panel_size_(depth_ * Blocks::kLanes + Lanes::kWidth), panels_(passes_ * (round_ / Blocks::kLanes) * panel_size_),
          totals_(job.array.shape.cols * round_), sums_(2 * round_) {}

    void run() {
        for (std::size_t group = 0; group < job_.array.shape.groups; ++group) {
            planes_.fill(group);
            for (std::size_t begin = 0; begin < num_positions_; begin += round_) {
                run_round(group, begin, smaller(round_, num_positions_ - begin));
            }
        }
    }

   private:
    void run_round(std::size_t group, std::size_t begin, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        if (job_.output.input_sum_gain != 0.0F) {
            std::memset(sums_.get(), 0, round_ * sizeof(float));
        }
        const Round round{.array = job_.array,
                          .input = job_.input,
                          .output = job_.output,
                          .noise = job_.noise,
                          .group_cols = shape.cols,
                          .totals = totals_.get(),
                          .total_stride = round_,
                          .group = group,
                          .first_vector = job_.noise.first_vector + first_position() + begin,
                          .count = count};
        const auto digits = [this](std::size_t pass, std::size_t at) { return panel(pass, at); };
        for (std::size_t tile = 0; tile < shape.num_row_tiles(); ++tile) {
            const std::size_t first_row = tile * shape.tile_rows;
            const std::size_t depth = smaller(shape.tile_rows, shape.rows - first_row);
            for (std::size_t block = 0; block < count; block += Blocks::kLanes) {
                pack(first_row, depth, begin + block, smaller(Blocks::kLanes, count - block), block);
            }
            if (job_.output.input_sum_gain != 0.0F) {
                add_input_sums(depth, count);
            }
            for (std::size_t block = 0; block < job_.array.num_blocks(); ++block) {
                for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                    multiply_block<Lanes, ColumnSide::kRows>(round, tile, plane, block, depth, digits);
                }
            }
        }
        write(group, begin, count);
    }

    /// Digits of the register block of positions that begins at `first_of_block` of the round.
    float* panel(std::size_t pass, std::size_t first_of_block) const {
        return panels_.get() + (pass * round_ + first_of_block) / Blocks::kLanes * panel_size_;
    }

    /// Copies the digits of up to kLanes positions, word line by word line. Every copy is one register wide: what it writes too much, the
    /// next one overwrites, and what it reads too much lies in slack space.
    void pack(std::size_t first_row, std::size_t depth, std::size_t first, std::size_t count, std::size_t at) {
        Run runs[Blocks::kLanes > 6 ? Blocks::kLanes : 6];  // copy_runs is compiled for 6 runs on any path
        std::size_t num_runs = 0;
        const std::size_t row_length = planes_.outputs(2);
        const std::size_t lines = planes_.outputs(1);
        std::size_t o2 = first % row_length;
        std::size_t o1 = first / row_length % lines;
        std::size_t o0 = first / (row_length * lines) % planes_.outputs(0);
        std::size_t image = first / image_size_;
        for (std::size_t done = 0; done < count;) {
            runs[num_runs++] = {planes_.base(image, o0, o1) + o2, done};
            const std::size_t length = smaller(smaller(row_length - o2, Lanes::kWidth), count - done);
            done += length;
            o2 += length;
            if (o2 == row_length) {
                o2 = 0;
                if (++o1 == lines) {
                    o1 = 0;
                    if (++o0 == planes_.outputs(0)) {
                        o0 = 0;
                        ++image;
                    }
                }
            }
        }
        for (std::size_t pass = 0; pass < passes_; ++pass) {
            copy_runs(runs, num_runs, planes_.pass(static_cast<int>(pass)), &planes_.row_offset(first_row), depth, panel(pass, at));
        }
    }

    /// One register-wide piece of an output row: where it is read, counted from the beginning of a word line's digits, and where it goes in
    /// the panel.
    struct Run {
        std::size_t from;
        std::size_t to;
    };

    static void copy_runs(const Run* runs, std::size_t num_runs, const float* digits, const std::size_t* offsets, std::size_t depth,
                          float* target) {
        switch (num_runs) {
            case 1:
                return copy_some<1>(runs, digits, offsets, depth, target);
            case 2:
                return copy_some<2>(runs, digits, offsets, depth, target);
            case 3:
                return copy_some<3>(runs, digits, offsets, depth, target);
            case 4:
                return copy_some<4>(runs, digits, offsets, depth, target);
            case 5:
                return copy_some<5>(runs, digits, offsets, depth, target);
            case 6:
                return copy_some<6>(runs, digits, offsets, depth, target);
            default:
                for (std::size_t row = 0; row < depth; ++row, target += Blocks::kLanes) {
                    const float* source = digits + offsets[row];
                    for (std::size_t run = 0; run < num_runs; ++run) {
                        Lanes::store(target + runs[run].to, Lanes::load(source + runs[run].from));
                    }
                }
        }
    }

    /// With a number of runs known beforehand, all of them stay in registers.
    template <int kRuns>
    static void copy_some(const Run* runs, const float* digits, const std::size_t* offsets, std::size_t depth, float* target) {
        std::size_t to[kRuns];
        const float* from[kRuns];
        for (int run = 0; run < kRuns; ++run) {
            from[run] = digits + runs[run].from;
            to[run] = runs[run].to;
        }
        for (std::size_t row = 0; row < depth; ++row, target += Blocks::kLanes) {
            const std::size_t offset = offsets[row];
#pragma GCC unroll 6
            for (int run = 0; run < kRuns; ++run) {
                Lanes::store(target + to[run], Lanes::load(from[run] + offset));
            }
        }
    }

    /// Adds the levels of a tile to the sums of its vectors, which a reference column is subtracted by.
    void add_input_sums(std::size_t depth, std::size_t count) {
        float* tile_sum = sums_.get() + round_;
        for (std::size_t pass = 0; pass < passes_; ++pass) {
            const float weight = power_of_two(static_cast<int>(pass) * job_.input.bits_per_pass);
            std::memset(tile_sum, 0, round_ * sizeof(float));
            for (std::size_t i = 0; i < count; ++i) {
                const float* from = panel(pass, i / Blocks::kLanes * Blocks::kLanes) + i % Blocks::kLanes;
                for (std::size_t row = 0; row < depth; ++row) {
                    tile_sum[i] += from[row * Blocks::kLanes];
                }
                sums_.get()[i] = std::fma(tile_sum[i], weight, sums_.get()[i]);
            }
        }
    }

    /// Number of the piece's first output position among those of the whole call.
    std::size_t first_position() const {
        std::size_t behind_band = 1;
        for (std::size_t axis = job_.band_axis + 1; axis < 3; ++axis) {
            behind_band *= job_.geometry.out[axis];
        }
        return piece_.first_image * job_.geometry.out_volume() + piece_.band_begin * behind_band;
    }

    /// Scales the totals of a round and scatters them to the images.
    void write(std::size_t group, std::size_t begin, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const float* sums = sums_.get();
        const std::size_t out_volume = job_.geometry.out_volume();
        const std::size_t in_image = first_position() % out_volume;
        for (std::size_t col = 0; col < shape.cols; ++col) {
            const std::size_t column = group * shape.cols + col;
            const float scale = job_.output.column_scale[column];
            const float bias = job_.output.bias[column];
            float* total = totals_.get() + col * round_;
            if (job_.output.input_sum_gain != 0.0F) {
                for (std::size_t i = 0; i < count; ++i) {
                    total[i] = std::fma(-job_.output.input_sum_gain, sums[i], total[i]);
                }
            }
            for (std::size_t done = 0; done < count;) {
                const std::size_t image = piece_.first_image + (begin + done) / image_size_;
                const std::size_t position = (begin + done) % image_size_;
                const std::size_t run = smaller(image_size_ - position, count - done);
                float* y = job_.y.data() + (image * shape.num_columns() + column) * out_volume + in_image + position;
                for (std::size_t i = 0; i < run; ++i) {
                    y[i] = std::fma(total[done + i], scale, bias);
                }
                done += run;
            }
        }
    }

    const detail::ConvJob& job_;
    const detail::ConvPiece& piece_;
    DigitPlanes<Lanes> planes_;
    std::size_t passes_;
    /// Output positions of one image (or of its band).
    std::size_t image_size_;
    /// Output positions of the piece.
    std::size_t num_positions_;
    /// Word lines of the deepest tile.
    std::size_t depth_;
    /// Most output positions of a round, whole register blocks.
    std::size_t round_;
    /// Floats of one panel: a register block of digits and a register of slack.
    std::size_t panel_size_;
    /// Digits, a panel a pass and register block.
    Buffer<float> panels_;
    /// Totals: a row of round_ positions a column of the group.
    Buffer<float> totals_;
    /// Sums of all levels of every vector, then those of one tile and pass; round_ each.
    Buffer<float> sums_;
};

}  // namespace
}  // namespace cimrobust
