#pragma once

#include <cmath>
#include <cstddef>

namespace cimrobust::testing {

/// Lanes of plain C++, to try the code of wide instruction sets on any processor.
template <std::size_t kLaneCount, int kRows, int kVectors>
struct ArrayLanes {
    static constexpr std::size_t kWidth = kLaneCount;
    static constexpr int kBlockRows = kRows;
    static constexpr int kBlockVectors = kVectors;
    struct Float {
        float lane[kLaneCount];
    };

    template <class Function>
    static Float each(Function function) {
        Float result{};
        for (std::size_t i = 0; i < kLaneCount; ++i) {
            result.lane[i] = function(i);
        }
        return result;
    }
    static Float setf(float value) {
        return each([&](std::size_t) { return value; });
    }
    static Float load(const float* from) {
        return each([&](std::size_t i) { return from[i]; });
    }
    static void store(float* to, const Float& value) {
        for (std::size_t i = 0; i < kLaneCount; ++i) {
            to[i] = value.lane[i];
        }
    }
    static Float addf(const Float& a, const Float& b) {
        return each([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
    }
    static Float mulf(const Float& a, const Float& b) {
        return each([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
    }
    static Float fma(const Float& a, const Float& b, const Float& c) {
        return each([&](std::size_t i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
    }
    static Float rint(const Float& a) {
        return each([&](std::size_t i) { return std::nearbyint(a.lane[i]); });
    }
    // As the instructions: where one is NaN, the second.
    static Float minf(const Float& a, const Float& b) {
        return each([&](std::size_t i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Float maxf(const Float& a, const Float& b) {
        return each([&](std::size_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
};

}  // namespace cimrobust::testing
