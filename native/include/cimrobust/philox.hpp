#pragma once

#include <array>
#include <cstdint>

namespace cimrobust {

using PhiloxBlock = std::array<std::uint32_t, 4>;

/// Multipliers of the rounds, found by the authors in a search for those that mix bits best; 10 rounds are their recommendation.
inline constexpr std::uint32_t kPhiloxM0 = 0xD2511F53;
inline constexpr std::uint32_t kPhiloxM1 = 0xCD9E8D57;
/// What the key grows by from round to round (a Weyl sequence): the golden ratio and sqrt(3) - 1, as fractions of 2^32.
inline constexpr std::uint32_t kPhiloxW0 = 0x9E3779B9;
inline constexpr std::uint32_t kPhiloxW1 = 0xBB67AE85;
inline constexpr int kPhiloxRounds = 10;

/// Philox4x32-10: 128 random bits as a function of a 128-bit counter and a 64-bit key.
///
/// A function of its counter, without a state: a device's number follows from trial and place, so that chips may be drawn in any order, on
/// any number of threads and with any width of lanes. For one key it is a bijection of counters, so no block comes twice.
///
/// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3; known answers
/// of the authors are in tests/test_philox.cpp.
inline PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key) {
    auto key0 = static_cast<std::uint32_t>(key);
    auto key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const std::uint64_t product0 = std::uint64_t{kPhiloxM0} * counter[0];
        const std::uint64_t product1 = std::uint64_t{kPhiloxM1} * counter[2];
        counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(product1),
                   static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(product0)};
        key0 += kPhiloxW0;
        key1 += kPhiloxW1;
    }
    return counter;
}

}  // namespace cimrobust
