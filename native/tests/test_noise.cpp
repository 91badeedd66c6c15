#include "crossbar/noise.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

NoiseArgs noise_of(const QuantileTable& table, std::uint64_t key = 42, std::uint32_t stage = 3) {
    return {nullptr, &table, key, 0, stage, 0, 1};
}

float quantile_of(std::uint32_t word, const QuantileTable& table) { return quantile<ScalarLanes>(word, table, kOnlyTable); }

}  // namespace

TEST_CASE("a draw is the quantile of its own Philox word") {
    const Tables tables = normal_table();
    const QuantileTable table = tables.view();
    const NoiseArgs noise = noise_of(table);
    for (const std::uint64_t vector : {std::uint64_t{0}, std::uint64_t{0xFFFFFFFF}, std::uint64_t{0x100000000}, ~std::uint64_t{0}}) {
        const std::uint32_t word =
            philox({static_cast<std::uint32_t>(vector), static_cast<std::uint32_t>(vector >> 32), noise.stage, 5}, noise.key)[0];
        CHECK(normal_draw(noise, vector, 5) == quantile_of(word, table));
    }
}

TEST_CASE("draws differ by vector, column, stage and key") {
    const Tables tables = normal_table();
    const QuantileTable table = tables.view();
    const float draw = normal_draw(noise_of(table), 7, 5);
    CHECK(normal_draw(noise_of(table), 7, 5) == draw);
    CHECK(normal_draw(noise_of(table), 8, 5) != draw);
    CHECK(normal_draw(noise_of(table), 7 + (std::uint64_t{1} << 32), 5) != draw);
    CHECK(normal_draw(noise_of(table), 7, 6) != draw);
    CHECK(normal_draw(noise_of(table, 42, 4), 7, 5) != draw);
    CHECK(normal_draw(noise_of(table, 43), 7, 5) != draw);
}

TEST_CASE("draws are standard normal") {
    const Tables tables = normal_table();
    const QuantileTable table = tables.view();
    const NoiseArgs noise = noise_of(table);
    constexpr int kDraws = 100000;
    double sum = 0.0;
    double squares = 0.0;
    int beyond_two = 0;
    for (int i = 0; i < kDraws; ++i) {
        const auto draw = static_cast<double>(normal_draw(noise, static_cast<std::uint64_t>(i), 0));
        sum += draw;
        squares += draw * draw;
        beyond_two += std::fabs(draw) > 2.0 ? 1 : 0;
    }
    // Five standard errors.
    CHECK(std::fabs(sum / kDraws) < 5.0 / std::sqrt(double{kDraws}));
    CHECK(std::fabs(squares / kDraws - 1.0) < 5.0 * std::sqrt(2.0 / kDraws));
    CHECK(std::fabs(beyond_two - 0.0455003 * kDraws) < 5.0 * std::sqrt(0.0455 * kDraws));
}
