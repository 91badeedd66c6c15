#include "crossbar/coding.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "array_lanes.hpp"
#include "crossbar/scalar_floats.hpp"
#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

constexpr InputCoding kCoding{true, 2.0F, 1.0F, -4.0F, 7.0F, 1, 0};

/// A level, taken apart into `passes` digits of `bits` bits.
std::vector<float> digits_of(float level, int passes, int bits) {
    std::vector<float> digits(static_cast<std::size_t>(passes));
    float rest = std::fabs(level);
    for (float& digit : digits) {
        take_digit(&rest, &level, 1, bits, &digit);
    }
    CHECK(rest == 0.0F);
    return digits;
}

template <class Lanes>
void code_levels_is_level_of_for_every_length() {
    const InputCoding plain{};
    Values values(1);
    for (std::size_t count = 0; count <= 2 * Lanes::kWidth + 1; ++count) {
        CAPTURE(count);
        const auto x = values.floats(count + 1, -5.0F, 5.0F);
        for (const InputCoding& coding : {kCoding, plain}) {
            std::vector<float> levels(count + 1, 99.0F);
            std::vector<float> expected(count + 1, 99.0F);
            for (std::size_t i = 0; i < count; ++i) {
                expected[i] = level_of(x[i], coding);
            }
            code_levels<Lanes>(x.data(), count, coding, levels.data());
            CHECK(first_difference(levels, expected) == kSame);
        }
    }
}

}  // namespace

TEST_CASE("levels are rounded, halves to even, shifted and clipped") {
    CHECK(level_of(0.0F, kCoding) == 1.0F);
    CHECK(level_of(0.25F, kCoding) == 1.0F);
    CHECK(level_of(0.75F, kCoding) == 3.0F);
    CHECK(level_of(-0.25F, kCoding) == 1.0F);
    CHECK(level_of(1.2F, kCoding) == 3.0F);
    CHECK(level_of(100.0F, kCoding) == 7.0F);
    CHECK(level_of(-100.0F, kCoding) == -4.0F);
    CHECK(level_of(std::numeric_limits<float>::infinity(), kCoding) == 7.0F);
    CHECK(level_of(-std::numeric_limits<float>::infinity(), kCoding) == -4.0F);
}

TEST_CASE("without rounding the level is the activation") {
    const InputCoding plain{};
    CHECK(level_of(1.234F, plain) == 1.234F);
    CHECK(level_of(-1e30F, plain) == -1e30F);
}

TEST_CASE("not-a-number is handed on") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(level_of(nan, kCoding)));
    CHECK(std::isnan(clipped(nan, -1.0F, 1.0F)));
    const std::vector<float> x(5, nan);
    std::vector<float> levels(5);
    code_levels<ArrayLanes<4, 4, 1>>(x.data(), 5, kCoding, levels.data());
    for (const float level : levels) {
        CHECK(std::isnan(level));
    }
}

TEST_CASE("code_levels is level_of, for every length") {
    code_levels_is_level_of_for_every_length<ScalarFloats>();
    code_levels_is_level_of_for_every_length<ArrayLanes<4, 4, 1>>();
    code_levels_is_level_of_for_every_length<ArrayLanes<16, 4, 1>>();
}

TEST_CASE("digits come lowest first, with the sign of their level") {
    CHECK(digits_of(13.0F, 4, 1) == std::vector<float>{1.0F, 0.0F, 1.0F, 1.0F});
    CHECK(digits_of(-13.0F, 2, 2) == std::vector<float>{-1.0F, -3.0F});
    CHECK(digits_of(0.0F, 3, 2) == std::vector<float>{0.0F, 0.0F, 0.0F});
    const auto negative = digits_of(-4.0F, 2, 2);
    CHECK(std::signbit(negative[0]));
    CHECK(negative == std::vector<float>{0.0F, -1.0F});
}

TEST_CASE("digits add up to their level") {
    for (const int bits : {1, 2, 3, 8}) {
        for (const float level : {0.0F, 1.0F, -1.0F, 127.0F, -128.0F, 255.0F, -200.0F, 16777215.0F}) {
            CAPTURE(bits);
            CAPTURE(level);
            const int passes = 24 / bits;
            const auto digits = digits_of(level, passes, bits);
            double sum = 0.0;
            for (int pass = 0; pass < passes; ++pass) {
                const float digit = digits[static_cast<std::size_t>(pass)];
                CHECK(std::fabs(digit) < power_of_two(bits));
                sum += static_cast<double>(digit) * static_cast<double>(power_of_two(bits * pass));
            }
            CHECK(sum == static_cast<double>(level));
        }
    }
}
