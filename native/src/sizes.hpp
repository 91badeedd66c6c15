#pragma once

#include <cstddef>

namespace cimrobust {
namespace {

// As std::min and std::max, but in an unnamed namespace: those are templates that the linker keeps one copy of, and it may be the wide one.
template <class T>
inline T smaller(T a, T b) {
    return a < b ? a : b;
}
template <class T>
inline T larger(T a, T b) {
    return a > b ? a : b;
}

/// The least multiple of `step` that is at least `value`.
inline std::size_t rounded_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

}  // namespace
}  // namespace cimrobust
