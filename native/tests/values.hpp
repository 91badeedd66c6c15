#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cimrobust/philox.hpp"
#include "cimrobust/program.hpp"

namespace cimrobust::testing {

/// Test values, the same with every standard library.
class Values {
   public:
    explicit Values(std::uint64_t seed) : seed_(seed) {}

    float between(float low, float high) { return low + (high - low) * static_cast<float>(word() >> 8) * 0x1p-24F; }
    std::vector<float> floats(std::size_t count, float low = -2.0F, float high = 2.0F) {
        std::vector<float> values(count);
        for (float& value : values) {
            value = between(low, high);
        }
        return values;
    }

   private:
    std::uint32_t word() { return philox({count_++, 0, 0, 0}, seed_)[0]; }

    std::uint64_t seed_;
    std::uint32_t count_ = 0;
};

inline constexpr std::size_t kSame = ~std::size_t{0};

/// Index of the first element whose bits differ, or kSame.
inline std::size_t first_difference(std::span<const float> a, std::span<const float> b) {
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
        if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) {
            return i;
        }
    }
    return a.size() == b.size() ? kSame : (a.size() < b.size() ? a.size() : b.size());
}

/// Quantile tables, owned.
struct Tables {
    std::vector<float> knots;
    std::vector<float> slopes;

    QuantileTable view() const { return {knots, slopes}; }
};

/// Tables from the quantile at every knot: lower(i) is that of the probability at distance (i-th segment's beginning) from the lower end.
template <class Quantile>
Tables symmetric_table(Quantile lower) {
    Tables tables{std::vector<float>(QuantileTable::kSize), std::vector<float>(QuantileTable::kSize)};
    const auto distance = [](std::size_t i) {
        const auto bits = (static_cast<std::uint32_t>(i) + QuantileTable::kFirstSegment) << QuantileTable::kShift;
        return static_cast<double>(std::bit_cast<float>(bits));
    };
    for (std::size_t i = 0; i < QuantileTable::kHalfSize; ++i) {
        const double here = lower(distance(i) * 0x1p-32);
        const double next = i + 1 < QuantileTable::kHalfSize ? lower(distance(i + 1) * 0x1p-32) : here;
        tables.knots[i] = static_cast<float>(here);
        tables.slopes[i] = static_cast<float>(next - here);
        tables.knots[i + QuantileTable::kHalfSize] = -tables.knots[i];
        tables.slopes[i + QuantileTable::kHalfSize] = -tables.slopes[i];
    }
    return tables;
}

/// Quantile of the standard normal distribution, for probabilities in (0, 1/2], by bisection.
inline double normal_quantile(double probability) {
    double low = -40.0;
    double high = 0.0;
    for (int step = 0; step < 60; ++step) {
        const double middle = (low + high) / 2.0;
        (0.5 * std::erfc(-middle / std::sqrt(2.0)) < probability ? low : high) = middle;
    }
    return (low + high) / 2.0;
}

inline Tables normal_table() { return symmetric_table(normal_quantile); }

}  // namespace cimrobust::testing
