#include "quantile.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "scalar_lanes.hpp"
#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

float quantile_of(std::uint32_t word, const QuantileTable& table) { return quantile<ScalarLanes>(word, table, kOnlyTable); }

}  // namespace

TEST_CASE("the quantile of a word is that of the table, to both ends") {
    const Tables tables = normal_table();
    const QuantileTable table = tables.view();
    for (const std::uint32_t word : {0U, 1U, 2U, 63U, 64U, 1000003U, 0x3FFFFFFFU, 0x40000000U, 0x7FFFFFFEU}) {
        CAPTURE(word);
        const double exact = normal_quantile((static_cast<double>(word) + 0.5) * 0x1p-32);
        CHECK(std::fabs(static_cast<double>(quantile_of(word, table)) - exact) < 2e-4);
        CHECK(quantile_of(~word, table) == -quantile_of(word, table));
    }
    // The middle word of the lower half rounds up to the knot that ends it.
    CHECK(std::fabs(quantile_of(0x7FFFFFFFU, table)) < 1e-6F);
    CHECK(std::fabs(quantile_of(0x80000000U, table)) < 1e-6F);
}

TEST_CASE("where tables follow each other, first picks one") {
    Tables tables = normal_table();
    const auto one = tables.knots.size();
    tables.knots.insert(tables.knots.end(), one, 7.0F);
    tables.slopes.insert(tables.slopes.end(), one, 0.0F);
    const std::uint32_t second = kOnlyTable + static_cast<std::uint32_t>(QuantileTable::kSize);
    for (const std::uint32_t word : {0U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
        CHECK(quantile<ScalarLanes>(word, tables.view(), second) == 7.0F);
    }
}
