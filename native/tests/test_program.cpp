#include "cimrobust/program.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "values.hpp"

namespace {

using cimrobust::ProgramLayer;
using cimrobust::ProgramSpec;
using cimrobust::QuantileTable;
using cimrobust::Simd;
using cimrobust::StreamKey;
using cimrobust::testing::first_difference;
using cimrobust::testing::kSame;

/// A table whose value at distance m from the lower end rises from -1 to 0, and falls from 1 to 0 from the upper end.
struct Table {
    std::vector<float> knots;
    std::vector<float> slopes;

    Table() : knots(2 * QuantileTable::kHalfSize), slopes(2 * QuantileTable::kHalfSize) {
        const auto size = static_cast<float>(QuantileTable::kHalfSize);
        for (std::size_t i = 0; i < QuantileTable::kHalfSize; ++i) {
            knots[i] = static_cast<float>(i) / size - 1.0F;
            knots[i + QuantileTable::kHalfSize] = -knots[i];
            slopes[i] = 1.0F / size;
            slopes[i + QuantileTable::kHalfSize] = -slopes[i];
        }
    }
    QuantileTable view() const { return {knots, slopes}; }
};

std::vector<float> weights(std::size_t size) {
    std::vector<float> values(size);
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = static_cast<float>(i % 7) - 3.0F;
    }
    return values;
}

}  // namespace

TEST_CASE("every instruction set gives the same bits") {
    const Table table;
    for (const std::size_t size : {0U, 1U, 7U, 8U, 16U, 17U, 1000U}) {
        const auto nominal = weights(size);
        std::vector<std::int32_t> group(size);
        for (std::size_t i = 0; i < size; ++i) {
            group[i] = static_cast<std::int32_t>(i % 3);
        }
        const std::vector<float> scale{0.1F, 0.2F, 0.0F};
        const std::vector<float> lo{-0.05F, -9.0F, 0.0F};
        const std::vector<float> hi{0.05F, 9.0F, 0.0F};
        for (const bool grouped : {false, true}) {
            for (const bool pair : {false, true}) {
                const ProgramLayer layer{nominal, grouped ? std::span<const std::int32_t>(group) : std::span<const std::int32_t>(), scale,
                                         lo, hi};
                const ProgramSpec spec{3, 2, pair, !pair, true};
                std::vector<float> expected(size);
                cimrobust::program_weights(layer, spec, table.view(), StreamKey{42, 7}, Simd::kScalar, expected);
                for (int level = 1; level <= static_cast<int>(cimrobust::best_simd()); ++level) {
                    std::vector<float> programmed(size);
                    cimrobust::program_weights(layer, spec, table.view(), StreamKey{42, 7}, static_cast<Simd>(level), programmed);
                    CHECK(first_difference(expected, programmed) == kSame);
                }
            }
        }
    }
}

TEST_CASE("a weight is the fold of its devices") {
    const Table table;
    const auto nominal = weights(5);
    const std::vector<float> scale{0.5F};
    const std::vector<float> lo{-1000.0F};
    const std::vector<float> hi{1000.0F};
    std::vector<float> devices(5 * 3);
    cimrobust::draw_deviations(5, 3, table.view(), StreamKey{1, 2}, devices);
    std::vector<float> programmed(5);
    cimrobust::program_weights({nominal, {}, scale, lo, hi}, ProgramSpec{3, 2, false, true, true}, table.view(), StreamKey{1, 2},
                               cimrobust::best_simd(), programmed);
    for (std::size_t i = 0; i < 5; ++i) {
        float sum = 0.0F;
        for (std::size_t j = 0; j < 3; ++j) {
            sum += static_cast<float>(1U << (2 * j)) * devices[3 * i + j];
        }
        const float sign = nominal[i] < 0.0F ? -1.0F : 1.0F;
        CHECK(programmed[i] == nominal[i] + sign * (0.5F * sum));
    }
}

TEST_CASE("a scale of zero leaves weights alone") {
    const Table table;
    const auto nominal = weights(33);
    const std::vector<float> zero{0.0F};
    std::vector<float> programmed(33);
    cimrobust::program_weights({nominal, {}, zero, zero, zero}, ProgramSpec{4, 2, false, true, true}, table.view(), StreamKey{3, 0},
                               cimrobust::best_simd(), programmed);
    CHECK(programmed == nominal);
}

TEST_CASE("trials and keys differ") {
    const Table table;
    std::vector<float> one(64);
    std::vector<float> two(64);
    cimrobust::draw_deviations(16, 4, table.view(), StreamKey{1, 0}, one);
    cimrobust::draw_deviations(16, 4, table.view(), StreamKey{1, 1}, two);
    CHECK(first_difference(one, two) != kSame);
    cimrobust::draw_deviations(16, 4, table.view(), StreamKey{2, 0}, two);
    CHECK(first_difference(one, two) != kSame);
}
