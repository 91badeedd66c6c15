#include "crossbar/rounds.hpp"

#include <doctest/doctest.h>

using namespace cimrobust;

TEST_CASE("a round is whole register blocks, at least one, and no more than there are vectors for") {
    for (const std::size_t step : {3U, 4U, 24U, 48U}) {
        for (const std::size_t cols : {1U, 10U, 512U, 70000U}) {
            for (const std::size_t panel_rows : {1U, 128U, 5000U, 40000U}) {
                for (const std::size_t available : {1U, 47U, 48U, 100000U}) {
                    const std::size_t round = vectors_per_round(cols, panel_rows, step, available);
                    CAPTURE(round);
                    CHECK(round % step == 0);
                    CHECK(round >= step);
                    CHECK(round < available + step);
                    const bool fits_cache = round * cols <= kTotalFloats && round * panel_rows <= kPanelFloats;
                    CHECK((fits_cache || round == step));
                }
            }
        }
    }
}

TEST_CASE("an array without word lines or columns has rounds all the same") {
    CHECK(vectors_per_round(0, 0, 4, 9) == 12);
    CHECK(vectors_per_round(0, 0, 4, 0) == 0);
}

TEST_CASE("numbers are rounded up to multiples") {
    CHECK(rounded_up(0, 8) == 0);
    CHECK(rounded_up(1, 8) == 8);
    CHECK(rounded_up(8, 8) == 8);
    CHECK(rounded_up(9, 8) == 16);
}
