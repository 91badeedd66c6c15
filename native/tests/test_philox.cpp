// Known answers of Philox4x32-10 from the authors' own test vectors (Random123, kat_vectors).

#include "cimrobust/philox.hpp"

#include <doctest/doctest.h>

using cimrobust::philox;
using cimrobust::PhiloxBlock;

TEST_CASE("known answers of Philox4x32-10") {
    CHECK(philox({0, 0, 0, 0}, 0) == (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff) ==
          (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
          (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}
