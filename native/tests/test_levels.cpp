#include "cimrobust/levels.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "cimrobust/program.hpp"
#include "values.hpp"

namespace {

using cimrobust::Faults;
using cimrobust::LevelCoding;
using cimrobust::LevelSpec;
using cimrobust::QuantileTable;
using cimrobust::Simd;
using cimrobust::StreamKey;
using cimrobust::testing::first_difference;
using cimrobust::testing::kSame;

constexpr LevelCoding kSigned{3, 2, false, true, 63, 0, false};
constexpr LevelCoding kPair{3, 2, true, false, 63, 0, false};
constexpr LevelCoding kOffset{4, 2, false, false, 63, 64, true};

/// Tables of which that of level l deviates by l + 1 tenths of a level from -1 to 1.
struct Tables {
    std::vector<float> knots;
    std::vector<float> slopes;

    explicit Tables(std::size_t num_tables) : knots(num_tables * QuantileTable::kSize), slopes(knots.size()) {
        for (std::size_t i = 0; i < knots.size(); ++i) {
            const std::size_t place = i % QuantileTable::kHalfSize;
            const float width = 0.1F * static_cast<float>(i / QuantileTable::kSize + 1);
            const float sign = (i / QuantileTable::kHalfSize) % 2 == 0 ? -1.0F : 1.0F;
            const auto size = static_cast<float>(QuantileTable::kHalfSize);
            knots[i] = sign * width * (1.0F - static_cast<float>(place) / size);
            slopes[i] = -sign * width / size;
        }
    }
    QuantileTable view() const { return {knots, slopes}; }
};

std::vector<float> weights(std::size_t size) {
    std::vector<float> values(size);
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = static_cast<float>(i % 127) - 63.0F;
        values[i] = values[i] == 0.0F ? 0.0F : values[i];
    }
    return values;
}

struct Chip {
    std::vector<float> programmed;
    std::vector<float> devices;
};

Chip program(const std::vector<float>& nominal, const LevelSpec& spec, const Tables& tables, Simd simd) {
    const std::vector<float> scale{1.0F};
    const std::vector<float> lo(nominal.size(), -3.0F);
    const std::vector<float> hi(nominal.size(), 3.0F);
    Chip chip{std::vector<float>(nominal.size()), std::vector<float>(nominal.size() * static_cast<std::size_t>(spec.coding.num_devices()))};
    cimrobust::program_levels({nominal, {}, scale, lo, hi}, spec, tables.view(), StreamKey{42, 7}, simd, {chip.programmed, chip.devices});
    return chip;
}

}  // namespace

TEST_CASE("every instruction set gives the same bits") {
    for (const std::size_t size : {0U, 1U, 7U, 16U, 33U, 500U}) {
        for (const std::size_t num_tables : {1U, 4U}) {
            const Tables tables(num_tables);
            for (const LevelCoding& coding : {kSigned, kPair, kOffset}) {
                for (const Faults& faults : {Faults{}, Faults{9, 0x20000000U, 0xA0000000U, 3.0F}}) {
                    const LevelSpec spec{coding, true, faults};
                    const Chip expected = program(weights(size), spec, tables, Simd::kScalar);
                    for (int level = 1; level <= static_cast<int>(cimrobust::best_simd()); ++level) {
                        const Chip got = program(weights(size), spec, tables, static_cast<Simd>(level));
                        CHECK(first_difference(expected.programmed, got.programmed) == kSame);
                        CHECK(first_difference(expected.devices, got.devices) == kSame);
                    }
                }
            }
        }
    }
}

TEST_CASE("devices add up to the weight") {
    const Tables tables(4);
    const auto nominal = weights(127);
    for (const LevelCoding& coding : {kSigned, kPair, kOffset}) {
        const Chip chip = program(nominal, LevelSpec{coding, false, Faults{}}, tables, cimrobust::best_simd());
        for (std::size_t i = 0; i < nominal.size(); ++i) {
            double sum = -static_cast<double>(coding.level_offset);
            for (int device = 0; device < coding.num_devices(); ++device) {
                const bool negative = device >= coding.num_slices;
                const double weight = std::ldexp(negative ? -1.0 : 1.0, 2 * (negative ? device - coding.num_slices : device));
                sum += weight * static_cast<double>(chip.devices[static_cast<std::size_t>(device) * nominal.size() + i]);
            }
            const double sign = coding.mirrors_negative && nominal[i] < 0.0F ? -1.0 : 1.0;
            CHECK(std::fabs(sign * sum - static_cast<double>(chip.programmed[i])) < 1e-4);
        }
    }
}

TEST_CASE("devices deviate by the table of their level") {
    const auto nominal = weights(127);
    std::vector<float> targets(127 * 3);
    const std::vector<float> scale{1.0F};
    cimrobust::emit_levels(nominal, {}, scale, kSigned, targets);
    const LevelSpec spec{kSigned, false, Faults{}};
    const Chip one = program(nominal, spec, Tables(1), cimrobust::best_simd());
    const Chip four = program(nominal, spec, Tables(4), cimrobust::best_simd());
    for (std::size_t i = 0; i < targets.size(); ++i) {
        CHECK(one.devices[i] != targets[i]);
        CHECK(std::fabs((four.devices[i] - targets[i]) - (targets[i] + 1.0F) * (one.devices[i] - targets[i])) < 1e-5F);
    }
}

TEST_CASE("stuck devices sit at their level and are not clamped") {
    const Tables tables(1);
    const auto nominal = weights(127);
    const Chip low = program(nominal, LevelSpec{kSigned, true, Faults{9, 0xFFFFFFFFU, 0, 3.0F}}, tables, cimrobust::best_simd());
    const Chip high = program(nominal, LevelSpec{kSigned, true, Faults{9, 0, 0xFFFFFFFFU, 3.0F}}, tables, cimrobust::best_simd());
    for (std::size_t i = 0; i < nominal.size(); ++i) {
        CHECK(low.programmed[i] == 0.0F);
        CHECK(high.programmed[i] == (nominal[i] < 0.0F ? -63.0F : 63.0F));
    }
    for (std::size_t i = 0; i < low.devices.size(); ++i) {
        CHECK(low.devices[i] == 0.0F);
        CHECK(high.devices[i] == 3.0F);
    }
}

TEST_CASE("boxes add up the bounds of the levels") {
    const std::vector<float> nominal{2.0F * 27.0F, 2.0F * -27.0F};  // 27 = 3 + 4 * 2 + 16 * 1
    const std::vector<double> scale{2.0};
    const std::vector<double> low{-0.5, -0.25, -0.125, 0.0};
    const std::vector<double> high{0.0, 1.0, 2.0, 4.0};
    std::vector<float> lo(2);
    std::vector<float> hi(2);
    cimrobust::emit_level_box(nominal, {}, scale, low, high, kSigned, lo, hi);
    const float sum_low = 2.0F * (0.0F - 4.0F * 0.125F - 16.0F * 0.25F);
    const float sum_high = 2.0F * (4.0F + 4.0F * 2.0F + 16.0F);
    CHECK(lo[0] == sum_low);
    CHECK(hi[0] == sum_high);
    CHECK(lo[1] == -sum_high);
    CHECK(hi[1] == -sum_low);
    cimrobust::emit_level_box(nominal, {}, scale, low, high, kPair, lo, hi);
    CHECK(lo[0] == sum_low);
    CHECK(hi[0] == sum_high + 2.0F * 21.0F * 0.5F);
    CHECK(lo[1] == -hi[0]);
    CHECK(hi[1] == -lo[0]);
}

TEST_CASE("remainders belong to slice 0") {
    const std::vector<float> nominal{5.25F, -5.25F, 0.0F};
    const std::vector<float> scale{1.0F};
    std::vector<float> levels(12);
    cimrobust::emit_levels(nominal, {}, scale, kOffset, levels);
    CHECK(levels[0] == 1.25F);  // 69.25, 58.75, 64
    CHECK(levels[1] == 2.75F);
    CHECK(levels[2] == 0.0F);
    CHECK(levels[3] == 1.0F);
    CHECK(levels[4] == 2.0F);
    CHECK(levels[5] == 0.0F);
}

TEST_CASE("a scale of zero is level zero") {
    const std::vector<float> nominal{0.0F};
    const std::vector<float> scale{0.0F};
    std::vector<float> levels(3);
    cimrobust::emit_levels(nominal, {}, scale, kSigned, levels);
    CHECK(levels == std::vector<float>(3, 0.0F));
}
