#include "crossbar/block.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "array_lanes.hpp"
#include "crossbar/coding.hpp"
#include "crossbar/scalar_floats.hpp"
#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

struct Case {
    std::size_t depth = 1;
    bool converts = false;
    bool is_first = true;
    bool is_noisy = false;
};

/// Runs one block of rows x lanes and compares it with plain loops; what lies around the totals must stay as it was.
template <class Lanes, ColumnSide kSide>
void check_block(std::size_t rows, std::size_t lanes, const Case& the) {
    using Blocks = Block<Lanes, kSide>;
    CAPTURE(rows);
    CAPTURE(lanes);
    CAPTURE(the.depth);
    CAPTURE(the.converts);
    CAPTURE(the.is_first);
    CAPTURE(the.is_noisy);
    constexpr bool kOnRows = kSide == ColumnSide::kRows;
    const std::size_t stored = (lanes + Lanes::kWidth - 1) / Lanes::kWidth * Lanes::kWidth;
    const std::size_t stride = stored + 3;
    Values values(rows * 1000 + lanes);
    const auto a = values.floats(the.depth * rows);
    const auto b = values.floats((the.depth - 1) * Blocks::kLanes + stored);
    const auto gain = values.floats(kOnRows ? rows : stored);
    const auto inverse = values.floats(gain.size(), 1.0F, 3.0F);
    const auto variances = values.floats(kOnRows ? a.size() : b.size(), 0.0F, 0.5F);
    auto total = values.floats((rows - 1) * stride + stored);
    if (the.is_first) {
        total[0] = std::numeric_limits<float>::quiet_NaN();
    }
    auto expected = total;

    const Tables tables = normal_table();
    const QuantileTable table = tables.view();
    const NoiseArgs noise{variances.data(), &table, 42, (std::uint64_t{1} << 32) - 2, 3, 17, lanes};
    BlockArgs args{};
    args.a = a.data();
    args.b = b.data();
    args.b_stride = Blocks::kLanes;
    args.depth = the.depth;
    args.gain = gain.data();
    args.inverse_step = the.converts ? inverse.data() : nullptr;
    args.low = -3.0F;
    args.high = 3.0F;
    args.pass_weight = 4.0F;
    args.total = total.data();
    args.total_stride = stride;
    args.is_first = the.is_first;
    args.noise = the.is_noisy ? &noise : nullptr;
    Blocks::of(rows, lanes)(args);

    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t lane = 0; lane < stored; ++lane) {
            const std::size_t col = kOnRows ? row : lane;
            float sum = 0.0F;
            float variance = 0.0F;
            for (std::size_t k = 0; k < the.depth; ++k) {
                const std::size_t at_a = k * rows + row;
                const std::size_t at_b = k * Blocks::kLanes + lane;
                sum = std::fma(a[at_a], b[at_b], sum);
                const float digit = kOnRows ? b[at_b] : a[at_a];
                const float of_cell = variances[kOnRows ? at_a : at_b];
                variance = kOnRows ? std::fma(of_cell, digit * digit, variance) : std::fma(digit * digit, of_cell, variance);
            }
            if (the.is_noisy && lane < lanes) {
                const std::size_t vector = kOnRows ? lane : row;
                sum += std::sqrt(variance) *
                       normal_draw(noise, noise.first_vector + vector, noise.first_col + static_cast<std::uint32_t>(col));
            }
            const float code = the.converts ? clipped(std::nearbyint(sum * inverse[col]), args.low, args.high) : sum;
            float& to = expected[row * stride + lane];
            to = std::fma(code, gain[col] * args.pass_weight, the.is_first ? 0.0F : to);
        }
    }
    CHECK(first_difference(total, expected) == kSame);
}

template <class Lanes>
void check_every_block() {
    using Blocks = Block<Lanes, ColumnSide::kRows>;
    for (std::size_t rows = 1; rows <= Blocks::kRows; ++rows) {
        for (std::size_t lanes = 1; lanes <= Blocks::kLanes; ++lanes) {
            for (const Case& the :
                 {Case{1}, Case{5, true}, Case{7, false, false}, Case{4, true, false, true}, Case{3, false, true, true}}) {
                check_block<Lanes, ColumnSide::kRows>(rows, lanes, the);
                check_block<Lanes, ColumnSide::kLanes>(rows, lanes, the);
            }
        }
    }
}

}  // namespace

TEST_CASE("every block of one plain lane is what plain loops say") { check_every_block<ScalarFloats>(); }

TEST_CASE("every block of eight rows of four lanes is what plain loops say") { check_every_block<ArrayLanes<4, 8, 1>>(); }

TEST_CASE("a converter hands not-a-number on") {
    using Blocks = Block<ArrayLanes<4, 8, 1>, ColumnSide::kRows>;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> one{1.0F};
    const std::vector<float> digits{1.0F, nan, 2.0F, -2.0F};
    std::vector<float> total(4);
    BlockArgs args{};
    args.a = one.data();
    args.b = digits.data();
    args.b_stride = 4;
    args.depth = 1;
    args.gain = one.data();
    args.inverse_step = one.data();
    args.low = -1.0F;
    args.high = 1.0F;
    args.pass_weight = 1.0F;
    args.total = total.data();
    args.is_first = true;
    Blocks::of(1, 4)(args);
    CHECK(total[0] == 1.0F);
    CHECK(std::isnan(total[1]));
    CHECK(total[2] == 1.0F);
    CHECK(total[3] == -1.0F);
}
