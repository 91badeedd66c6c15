#pragma once

// The crossbar product, written once over a type of lanes. Each instruction set includes this file in a source of its own, with its own
// flags; everything sits in an unnamed namespace so that no wide instruction can be linked into a narrow path.
//
// Sums of one bit line run over its word lines in order, one fused multiply-add each, whatever the instruction set; lanes are different
// outputs, never parts of one sum. So results are the same bits everywhere, and the NumPy reference can follow them.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cimrobust/crossbar.hpp"
#include "cimrobust/philox.hpp"

namespace cimrobust {
namespace {

/// Floats of scratch space, zero at first.
class Scratch {
   public:
    explicit Scratch(std::size_t size) : data_(static_cast<float*>(std::calloc(size == 0 ? 1 : size, sizeof(float)))) {
        if (data_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { std::free(data_); }
    float* get() const { return data_; }

   private:
    float* data_;
};

/// Offsets, zero at first.
class Offsets {
   public:
    explicit Offsets(std::size_t size) : data_(static_cast<std::size_t*>(std::calloc(size == 0 ? 1 : size, sizeof(std::size_t)))) {
        if (data_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    Offsets(const Offsets&) = delete;
    Offsets& operator=(const Offsets&) = delete;
    ~Offsets() { std::free(data_); }
    std::size_t& operator[](std::size_t index) const { return data_[index]; }

   private:
    std::size_t* data_;
};

inline float power_of_two(int exponent) { return std::ldexp(1.0F, exponent); }

inline std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }
inline std::size_t larger(std::size_t a, std::size_t b) { return a > b ? a : b; }
inline std::size_t rounded_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

// The bound comes first: a comparison with NaN then hands the NaN on.
inline float clipped(float value, float low, float high) {
    const float above = low > value ? low : value;
    return high < above ? high : above;
}

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

struct NoiseArgs {
    const float* variances;
    const QuantileTable* table;
    std::uint64_t key;
    std::uint64_t first_vector;
    std::uint32_t stage;
    std::uint32_t first_col;
    std::size_t num_rows;
    std::size_t num_lanes;
};

inline float normal_draw(const NoiseArgs& noise, std::uint64_t vector, std::uint32_t col) {
    const std::uint32_t word =
        philox({static_cast<std::uint32_t>(vector), static_cast<std::uint32_t>(vector >> 32), noise.stage, col}, noise.key)[0];
    const bool upper = (word >> 31) != 0;
    const std::uint32_t distance = (upper ? ~word : word) & 0x7FFFFFFFU;
    const float place_of = static_cast<float>(static_cast<std::int32_t>(distance)) + 0.5F;
    std::uint32_t bits;
    std::memcpy(&bits, &place_of, sizeof bits);
    const std::size_t segment = (bits >> QuantileTable::kShift) - QuantileTable::kFirstSegment + (upper ? QuantileTable::kHalfSize : 0);
    constexpr std::uint32_t kPlaceMask = (1U << QuantileTable::kShift) - 1U;
    const float place =
        static_cast<float>(static_cast<std::int32_t>(bits & kPlaceMask)) * (1.0F / static_cast<float>(1U << QuantileTable::kShift));
    return noise.table->knots[segment] + noise.table->slopes[segment] * place;
}

/// One register block: sums of `depth` word lines, converted and added to the totals.
struct BlockArgs {
    const float* a;
    const float* b;
    std::size_t b_stride;
    std::size_t depth;
    const float* gain;
    const float* inverse_step;
    float low;
    float high;
    float pass_weight;
    float* total;
    std::size_t total_stride;
    /// The totals hold nothing yet.
    bool is_first;
    const NoiseArgs* noise;
};

template <class Lanes, ColumnSide kSide>
struct Block {
    static constexpr int kRows = Lanes::kBlockRows;
    static constexpr int kVectors = Lanes::kBlockVectors;
    static constexpr std::size_t kLanes = kVectors * Lanes::kWidth;
    using Float = typename Lanes::Float;
    using Function = void (*)(const BlockArgs&);

    template <int kM, int kN, bool kSquares>
    static inline void sum_rows(const float* a, const float* b, const BlockArgs& args, Float (&sums)[kM][kN]) {
        for (int m = 0; m < kM; ++m) {
            for (int n = 0; n < kN; ++n) {
                sums[m][n] = Lanes::setf(0.0F);
            }
        }
        for (std::size_t k = 0; k < args.depth; ++k, a += kM, b += args.b_stride) {
            Float lanes[kN];
            for (int n = 0; n < kN; ++n) {
                lanes[n] = Lanes::load(b + static_cast<std::size_t>(n) * Lanes::kWidth);
                if constexpr (kSquares && kSide == ColumnSide::kRows) {
                    lanes[n] = Lanes::mulf(lanes[n], lanes[n]);
                }
            }
#pragma GCC unroll 16
            for (int m = 0; m < kM; ++m) {
                auto one = Lanes::setf(a[m]);
                if constexpr (kSquares && kSide == ColumnSide::kLanes) {
                    one = Lanes::mulf(one, one);
                }
#pragma GCC unroll 4
                for (int n = 0; n < kN; ++n) {
                    sums[m][n] = Lanes::fma(one, lanes[n], sums[m][n]);
                }
            }
        }
    }

    template <int kM, int kN>
    static void add_noise(const BlockArgs& args, Float (&sums)[kM][kN]) {
        const NoiseArgs& noise = *args.noise;
        Float variances[kM][kN];
        if constexpr (kSide == ColumnSide::kRows) {
            sum_rows<kM, kN, true>(noise.variances, args.b, args, variances);
        } else {
            sum_rows<kM, kN, true>(args.a, noise.variances, args, variances);
        }
        float sum[kLanes];
        float variance[kLanes];
        for (int m = 0; m < kM; ++m) {
            for (int n = 0; n < kN; ++n) {
                Lanes::store(sum + static_cast<std::size_t>(n) * Lanes::kWidth, sums[m][n]);
                Lanes::store(variance + static_cast<std::size_t>(n) * Lanes::kWidth, variances[m][n]);
            }
            const auto row = static_cast<std::uint32_t>(m);
            for (std::size_t j = 0; j < noise.num_lanes; ++j) {
                const bool in_rows = kSide == ColumnSide::kRows;
                const std::uint64_t vector = noise.first_vector + (in_rows ? j : row);
                const std::uint32_t col = noise.first_col + (in_rows ? row : static_cast<std::uint32_t>(j));
                sum[j] = sum[j] + std::sqrt(variance[j]) * normal_draw(noise, vector, col);
            }
            for (int n = 0; n < kN; ++n) {
                sums[m][n] = Lanes::load(sum + static_cast<std::size_t>(n) * Lanes::kWidth);
            }
        }
    }

    template <int kM, int kN>
    static void run(const BlockArgs& args) {
        Float sums[kM][kN];
        sum_rows<kM, kN, false>(args.a, args.b, args, sums);
        if (args.noise != nullptr) {
            add_noise<kM, kN>(args, sums);
        }
        const auto low = Lanes::setf(args.low);
        const auto high = Lanes::setf(args.high);
        const auto weight = Lanes::setf(args.pass_weight);
#pragma GCC unroll 16
        for (int m = 0; m < kM; ++m) {
            float* total = args.total + static_cast<std::size_t>(m) * args.total_stride;
#pragma GCC unroll 4
            for (int n = 0; n < kN; ++n) {
                const std::size_t lane = static_cast<std::size_t>(n) * Lanes::kWidth;
                auto code = sums[m][n];
                if (args.inverse_step != nullptr) {
                    const auto inverse =
                        kSide == ColumnSide::kRows ? Lanes::setf(args.inverse_step[m]) : Lanes::load(args.inverse_step + lane);
                    code = Lanes::minf(high, Lanes::maxf(low, Lanes::rint(Lanes::mulf(code, inverse))));
                }
                const auto gain = kSide == ColumnSide::kRows ? Lanes::setf(args.gain[m]) : Lanes::load(args.gain + lane);
                const auto before = args.is_first ? Lanes::setf(0.0F) : Lanes::load(total + lane);
                Lanes::store(total + lane, Lanes::fma(code, Lanes::mulf(gain, weight), before));
            }
        }
    }

    template <int kM>
    static Function with_rows(int vectors) {
        static_assert(kVectors <= 3);
        if constexpr (kVectors >= 3) {
            if (vectors == 3) {
                return &run<kM, 3>;
            }
        }
        if constexpr (kVectors >= 2) {
            if (vectors == 2) {
                return &run<kM, 2>;
            }
        }
        return &run<kM, 1>;
    }

    /// The block function for a number of rows and of lanes in use.
    static Function of(std::size_t rows, std::size_t lanes) {
        static_assert(kRows == 8 || kRows == 4);
        const int vectors = static_cast<int>((lanes + Lanes::kWidth - 1) / Lanes::kWidth);
        if constexpr (kRows == 8) {
            switch (rows) {
                case 8:
                    return with_rows<8>(vectors);
                case 7:
                    return with_rows<7>(vectors);
                case 6:
                    return with_rows<6>(vectors);
                case 5:
                    return with_rows<5>(vectors);
                default:
                    break;
            }
        }
        switch (rows) {
            case 4:
                return with_rows<4>(vectors);
            case 3:
                return with_rows<3>(vectors);
            case 2:
                return with_rows<2>(vectors);
            default:
                return with_rows<1>(vectors);
        }
    }
};

// Totals and input panels of one round should stay in a core's second-level cache.
inline constexpr std::size_t kTotalFloats = std::size_t{1} << 16;
inline constexpr std::size_t kPanelFloats = std::size_t{1} << 15;

/// Vectors (output positions) of one round, a multiple of `step`.
inline std::size_t vectors_per_round(std::size_t cols, std::size_t panel_rows, std::size_t step, std::size_t available) {
    const std::size_t fitting = smaller(kTotalFloats / larger(cols, 1), kPanelFloats / larger(panel_rows, 1));
    return smaller(larger(fitting / step * step, step), rounded_up(available, step));
}

/// The digits of a piece of the batch, padded, one copy a pass, columns sorted by their place within a stride.
template <class Lanes>
class DigitPlanes {
   public:
    DigitPlanes(const detail::ConvJob& job, const detail::ConvPiece& piece)
        : job_(job), piece_(piece), volume_(layout()), pass_size_(piece.num_images * job.geometry.channels * volume_),
          digits_(pass_size_ * static_cast<std::size_t>(job.input.num_passes) + 2 * Lanes::kWidth),
          row_(3 * rounded_up(length_[2], Lanes::kWidth) + Lanes::kWidth), row_offsets_(job.array.shape.rows) {
        list_rows();
    }

    const float* pass(int index) const { return digits_.get() + static_cast<std::size_t>(index) * pass_size_; }

    /// Outputs of one image along an axis.
    std::size_t outputs(std::size_t axis) const { return axis == job_.band_axis ? piece_.band_size : job_.geometry.out[axis]; }

    /// Where the receptive field of an output begins.
    std::size_t base(std::size_t image, std::size_t o0, std::size_t o1) const {
        const auto& stride = job_.geometry.stride;
        return image * job_.geometry.channels * volume_ + (o0 * stride[0] * length_[1] + o1 * stride[1]) * phases_ * width_;
    }

    /// Where word line `row` lies from the beginning of a receptive field.
    const std::size_t& row_offset(std::size_t row) const { return row_offsets_[row]; }

    /// Codes the activations of one group.
    void fill(std::size_t group) {
        const ConvGeometry& g = job_.geometry;
        for (std::size_t image = 0; image < piece_.num_images; ++image) {
            for (std::size_t channel = 0; channel < g.channels; ++channel) {
                const std::size_t plane =
                    (piece_.first_image + image) * job_.array.shape.groups * g.channels + group * g.channels + channel;
                const float* source = job_.x.data() + plane * g.in_volume();
                std::size_t target = (image * g.channels + channel) * volume_;
                for (std::size_t i0 = 0; i0 < length_[0]; ++i0) {
                    for (std::size_t i1 = 0; i1 < length_[1]; ++i1, target += phases_ * width_) {
                        fill_row(source, i0, i1, target);
                    }
                }
            }
        }
    }

   private:
    std::size_t layout() {
        const ConvGeometry& g = job_.geometry;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::size_t begin = axis == job_.band_axis ? piece_.band_begin : 0;
            origin_[axis] = static_cast<std::ptrdiff_t>(begin * g.stride[axis]) - g.pad[axis];
            length_[axis] = (outputs(axis) - 1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis] + 1;
        }
        phases_ = g.stride[2];
        width_ = (length_[2] + phases_ - 1) / phases_;
        return length_[0] * length_[1] * phases_ * width_;
    }

    void list_rows() {
        const ConvGeometry& g = job_.geometry;
        std::size_t row = 0;
        for (std::size_t channel = 0; channel < g.channels; ++channel) {
            for (std::size_t k0 = 0; k0 < g.kernel[0]; ++k0) {
                for (std::size_t k1 = 0; k1 < g.kernel[1]; ++k1) {
                    const std::size_t line = channel * volume_ + (k0 * g.dilation[0] * length_[1] + k1 * g.dilation[1]) * phases_ * width_;
                    for (std::size_t k2 = 0; k2 < g.kernel[2]; ++k2) {
                        const std::size_t column = k2 * g.dilation[2];
                        row_offsets_[row++] = line + column % phases_ * width_ + column / phases_;
                    }
                }
            }
        }
    }

    void fill_row(const float* source, std::size_t i0, std::size_t i1, std::size_t target) {
        const ConvGeometry& g = job_.geometry;
        const std::ptrdiff_t s0 = origin_[0] + static_cast<std::ptrdiff_t>(i0);
        const std::ptrdiff_t s1 = origin_[1] + static_cast<std::ptrdiff_t>(i1);
        const auto size0 = static_cast<std::ptrdiff_t>(g.in[0]);
        const auto size1 = static_cast<std::ptrdiff_t>(g.in[1]);
        const auto size2 = static_cast<std::ptrdiff_t>(g.in[2]);
        const bool inside = s0 >= 0 && s0 < size0 && s1 >= 0 && s1 < size1;
        const std::ptrdiff_t length = static_cast<std::ptrdiff_t>(length_[2]);
        const std::ptrdiff_t begin = inside ? std::min(std::max<std::ptrdiff_t>(-origin_[2], 0), length) : length;
        const std::ptrdiff_t end = inside ? std::max(std::min(size2 - origin_[2], length), begin) : length;
        float* levels = row_.get();
        const float padding = level_of(0.0F, job_.input);
        std::fill(levels, levels + begin, padding);
        if (end > begin) {
            const std::ptrdiff_t start = (s0 * size1 + s1) * size2 + origin_[2] + begin;
            code_levels<Lanes>(source + start, static_cast<std::size_t>(end - begin), job_.input, levels + begin);
        }
        std::fill(levels + end, levels + length, padding);
        if (job_.input.num_passes == 1) {
            return scatter(levels, digits_.get() + target);
        }
        float* rest = levels + rounded_up(length_[2], Lanes::kWidth);
        float* digits = rest + rounded_up(length_[2], Lanes::kWidth);
        for (std::size_t i = 0; i < length_[2]; ++i) {
            rest[i] = std::fabs(levels[i]);
        }
        for (int pass = 0; pass < job_.input.num_passes; ++pass) {
            take_digit(rest, levels, length_[2], job_.input.bits_per_pass, digits);
            scatter(digits, digits_.get() + static_cast<std::size_t>(pass) * pass_size_ + target);
        }
    }

    void scatter(const float* row, float* target) const {
        if (phases_ == 1) {
            std::memcpy(target, row, length_[2] * sizeof(float));
            return;
        }
        for (std::size_t i = 0; i < length_[2]; ++i) {
            target[i % phases_ * width_ + i / phases_] = row[i];
        }
    }

    const detail::ConvJob& job_;
    const detail::ConvPiece& piece_;
    std::ptrdiff_t origin_[3] = {0, 0, 0};
    std::size_t length_[3] = {1, 1, 1};
    std::size_t phases_ = 1;
    std::size_t width_ = 1;
    std::size_t volume_;
    std::size_t pass_size_;
    Scratch digits_;
    Scratch row_;
    Offsets row_offsets_;
};

/// Output positions of a piece, numbered through its images.
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
                    multiply(group, tile, plane, block, depth, begin, count);
                }
            }
        }
        write(group, begin, count);
    }

    float* panel(std::size_t pass, std::size_t first_position) const {
        return panels_.get() + (pass * round_ + first_position) / Blocks::kLanes * panel_size_;
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

    void multiply(std::size_t group, std::size_t tile, std::size_t plane, std::size_t block, std::size_t depth, std::size_t begin,
                  std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const std::size_t first_col = block * job_.array.block_cols();
        const std::size_t rows = job_.array.block_width(block);
        const std::size_t cells = job_.array.offset(group, tile, plane, block);
        const std::size_t coding = (plane * shape.num_row_tiles() + tile) * shape.num_columns() + group * shape.cols + first_col;
        NoiseArgs noise{};
        BlockArgs args{};
        args.a = job_.array.levels.data() + cells;
        args.b_stride = Blocks::kLanes;
        args.depth = depth;
        args.gain = job_.output.gain.data() + coding;
        args.inverse_step = job_.output.inverse_step.empty() ? nullptr : job_.output.inverse_step.data() + coding;
        args.low = job_.output.low;
        args.high = job_.output.high;
        args.total_stride = round_;
        if (job_.noise.is_on) {
            noise.variances = job_.array.variances.data() + cells;
            noise.table = &job_.noise.table;
            noise.key = job_.noise.key;
            noise.first_col = static_cast<std::uint32_t>(group * shape.cols + first_col);
            noise.num_rows = rows;
            args.noise = &noise;
        }
        for (std::size_t at = 0; at < count; at += Blocks::kLanes) {
            const std::size_t lanes = smaller(Blocks::kLanes, count - at);
            const auto function = Blocks::of(rows, lanes);
            args.total = totals_.get() + first_col * round_ + at;
            for (std::size_t pass = 0; pass < passes_; ++pass) {
                args.b = panel(pass, at);
                args.pass_weight = power_of_two(static_cast<int>(pass) * job_.input.bits_per_pass);
                args.is_first = tile == 0 && plane == 0 && pass == 0;
                noise.stage = static_cast<std::uint32_t>((tile * shape.planes + plane) * passes_ + pass);
                noise.num_lanes = lanes;
                noise.first_vector = first_vector() + begin + at;
                function(args);
            }
        }
    }

    /// Number of the piece's first output position among those of the whole call.
    std::uint64_t first_vector() const {
        std::size_t behind_band = 1;
        for (std::size_t axis = job_.band_axis + 1; axis < 3; ++axis) {
            behind_band *= job_.geometry.out[axis];
        }
        return job_.noise.first_vector + piece_.first_image * job_.geometry.out_volume() + piece_.band_begin * behind_band;
    }

    void write(std::size_t group, std::size_t begin, std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const float* sums = sums_.get();
        const std::size_t out_volume = job_.geometry.out_volume();
        const std::size_t in_image = static_cast<std::size_t>(first_vector() - job_.noise.first_vector) % out_volume;
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
    std::size_t image_size_;
    std::size_t num_positions_;
    std::size_t depth_;
    std::size_t round_;
    std::size_t panel_size_;
    Scratch panels_;
    Scratch totals_;
    /// Sums of all levels of every vector, then those of one tile and pass.
    Scratch sums_;
};

/// Products of the vectors [begin, end).
template <class Lanes>
class VectorRounds {
   public:
    using Blocks = Block<Lanes, ColumnSide::kLanes>;

    VectorRounds(const detail::VectorJob& job, std::size_t begin, std::size_t end)
        : job_(job), begin_(begin), end_(end), passes_(static_cast<std::size_t>(job.input.num_passes)),
          depth_(smaller(job.array.shape.tile_rows, job.array.shape.rows)), padded_cols_(rounded_up(job.array.shape.cols, Blocks::kLanes)),
          round_(vectors_per_round(padded_cols_, passes_ * depth_, Blocks::kRows, end - begin)), panels_(passes_ * depth_ * round_),
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
        for (std::size_t tile = 0; tile < shape.num_row_tiles(); ++tile) {
            const std::size_t first_row = tile * shape.tile_rows;
            const std::size_t depth = smaller(shape.tile_rows, shape.rows - first_row);
            for (std::size_t i = 0; i < count; ++i) {
                pack(group, first_row, depth, first + i, i, count);
            }
            for (std::size_t block = 0; block < job_.array.num_blocks(); ++block) {
                for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                    multiply(group, tile, plane, block, depth, first, count);
                }
            }
        }
        write(group, first, count);
    }

    /// Rows of the register block that holds vector `index` of a round of `count`.
    static std::size_t block_rows(std::size_t index, std::size_t count) {
        return smaller(Blocks::kRows, count - index / Blocks::kRows * Blocks::kRows);
    }

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
        const std::size_t place = index % Blocks::kRows;
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

    void multiply(std::size_t group, std::size_t tile, std::size_t plane, std::size_t block, std::size_t depth, std::size_t first,
                  std::size_t count) {
        const ArrayShape& shape = job_.array.shape;
        const std::size_t first_col = block * Blocks::kLanes;
        const std::size_t lanes = smaller(Blocks::kLanes, shape.cols - first_col);
        const std::size_t cells = job_.array.offset(group, tile, plane, block);
        const std::size_t coding = ((plane * shape.num_row_tiles() + tile) * shape.groups + group) * padded_cols_ + first_col;
        NoiseArgs noise{};
        BlockArgs args{};
        args.b = job_.array.levels.data() + cells;
        args.b_stride = Blocks::kLanes;
        args.depth = depth;
        args.gain = job_.output.gain.data() + coding;
        args.inverse_step = job_.output.inverse_step.empty() ? nullptr : job_.output.inverse_step.data() + coding;
        args.low = job_.output.low;
        args.high = job_.output.high;
        args.total_stride = padded_cols_;
        if (job_.noise.is_on) {
            noise.variances = job_.array.variances.data() + cells;
            noise.table = &job_.noise.table;
            noise.key = job_.noise.key;
            noise.first_col = static_cast<std::uint32_t>(group * shape.cols + first_col);
            noise.num_lanes = lanes;
            args.noise = &noise;
        }
        for (std::size_t at = 0; at < count; at += Blocks::kRows) {
            const std::size_t rows = block_rows(at, count);
            const auto function = Blocks::of(rows, lanes);
            args.total = totals_.get() + at * padded_cols_ + first_col;
            for (std::size_t pass = 0; pass < passes_; ++pass) {
                args.a = panel(pass, at);
                args.pass_weight = power_of_two(static_cast<int>(pass) * job_.input.bits_per_pass);
                args.is_first = tile == 0 && plane == 0 && pass == 0;
                noise.stage = static_cast<std::uint32_t>((tile * shape.planes + plane) * passes_ + pass);
                noise.first_vector = job_.noise.first_vector + first + at;
                function(args);
            }
        }
    }

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
    std::size_t depth_;
    std::size_t padded_cols_;
    std::size_t round_;
    Scratch panels_;
    Scratch totals_;
    Scratch row_;
    Scratch sums_;
};

}  // namespace
}  // namespace cimrobust
