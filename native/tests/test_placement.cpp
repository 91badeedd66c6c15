#include "cimrobust/placement.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

TEST_CASE("rounds halves to even and keeps signs") {
    const std::array<float, 6> values{0.5F, 1.5F, -2.5F, 3.2F, -0.2F, 0.0F};
    const std::array<double, 1> scale{1.0};
    std::array<float, 6> nominal{};
    cimrobust::quantise(values, {}, scale, 255, nominal);
    CHECK((nominal == std::array<float, 6>{0.0F, 2.0F, -2.0F, 3.0F, 0.0F, 0.0F}));
    CHECK(!std::signbit(nominal[4]));
}

TEST_CASE("a group of zeros stays zero") {
    const std::array<float, 2> values{0.0F, 3.0F};
    const std::array<std::int32_t, 2> group{0, 1};
    const std::array<double, 2> scale{0.0, 3.0 / 255.0};
    std::array<float, 2> nominal{};
    cimrobust::quantise(values, group, scale, 255, nominal);
    CHECK(nominal[0] == 0.0F);
    CHECK(std::fabs(nominal[1] - 3.0F) < 1e-6F);
}

TEST_CASE("levels stop at the highest") {
    const std::array<float, 1> values{std::numeric_limits<float>::max()};
    const std::array<double, 1> scale{1.0};
    std::array<float, 1> nominal{};
    cimrobust::quantise(values, {}, scale, 15, nominal);
    CHECK(nominal[0] == 15.0F);
}

TEST_CASE("boxes of negative weights are mirrored where asked") {
    const std::array<float, 2> nominal{1.0F, -1.0F};
    const std::array<float, 1> low{-0.1F};
    const std::array<float, 1> high{0.3F};
    std::array<float, 2> lo{};
    std::array<float, 2> hi{};
    cimrobust::emit_box(nominal, {}, low, high, true, lo, hi);
    CHECK((lo == std::array<float, 2>{-0.1F, -0.3F}));
    CHECK((hi == std::array<float, 2>{0.3F, 0.1F}));
    cimrobust::emit_box(nominal, {}, low, high, false, lo, hi);
    CHECK((lo == std::array<float, 2>{-0.1F, -0.1F}));
}
