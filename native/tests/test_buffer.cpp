#include "buffer.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

using cimrobust::Buffer;

TEST_CASE("a buffer is zero at first and keeps what is written") {
    const Buffer<float> floats(5);
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(floats[i] == 0.0F);
    }
    floats[4] = 2.5F;
    CHECK(floats.get()[4] == 2.5F);
    const Buffer<std::size_t> offsets(1);
    CHECK(offsets[0] == 0);
}

TEST_CASE("an empty buffer has an address") {
    const Buffer<float> nothing(0);
    CHECK(nothing.get() != nullptr);
}
