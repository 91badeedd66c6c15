#pragma once

// The crossbar product is written once over a type of lanes. Each instruction set includes this folder in a source of its own, with its own
// flags; everything sits in unnamed namespaces so that no wide instruction can be linked into a narrow path.
//
// Sums of one bit line run over its word lines in order, one fused multiply-add each, whatever the instruction set; lanes are different
// outputs, never parts of one sum. So results are the same bits everywhere, and the NumPy reference can follow them.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cimrobust/crossbar.hpp"
#include "crossbar/noise.hpp"

namespace cimrobust {
namespace {

/// One register block: kM rows times kN registers of sums over the word lines of a tile, converted and added to the totals.
///
/// One side of the block is the array, the other the input. Columns on rows (ColumnSide::kRows, convolutions): a row is a column of the
/// array, a lane a vector; `a` holds cells, `b` digits. Columns on lanes (ColumnSide::kLanes, vectors): `a` holds digits, `b` cells.
/// Cells and digits are in levels; sums in cell levels times digits.
struct BlockArgs {
    /// The rows' side: depth * kM values, the kM of one word line together, without gaps.
    const float* a;
    /// The lanes' side: kN registers of every word line, b_stride values from one word line to the next; padding is read too.
    const float* b;
    /// At least kN registers; in the packed arrays and panels the lanes of a full block.
    std::size_t b_stride;
    /// Word lines of the tile.
    std::size_t depth;
    /// What one code adds to the total; one value a column: kM of them (columns on rows) or kN registers (columns on lanes).
    const float* gain;
    /// Codes a unit of the sum; layout as gain. nullptr where there is no converter: the code is the sum.
    const float* inverse_step;
    /// Lowest code of the converter.
    float low;
    /// Highest code of the converter.
    float high;
    /// Weight of the digits of this pass: 2^(bits_per_pass * pass).
    float pass_weight;
    /// Totals, in the units of the gain: kM rows of kN registers, total_stride values apart; padding is written too.
    float* total;
    /// Values from one row of totals to the next.
    std::size_t total_stride;
    /// The totals hold nothing yet.
    bool is_first;
    /// nullptr where reads are free of noise.
    const NoiseArgs* noise;
};

/// The block functions of one instruction set: Lanes::kBlockRows by Lanes::kBlockVectors registers, and every smaller one.
template <class Lanes, ColumnSide kSide>
struct Block {
    static constexpr int kRows = Lanes::kBlockRows;
    static constexpr int kVectors = Lanes::kBlockVectors;
    static constexpr std::size_t kLanes = kVectors * Lanes::kWidth;
    using Float = typename Lanes::Float;
    using Function = void (*)(const BlockArgs&);

    /// Sums of a times b over the word lines, in their order, one fused multiply-add each. kSquares: of the square of the digits times b or
    /// a.
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

    /// Adds sqrt(sum of digit^2 * variance) * z to every sum in use.
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

    /// Sums, noise, conversion, total.
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

}  // namespace
}  // namespace cimrobust
