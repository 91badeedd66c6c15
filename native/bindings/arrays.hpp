#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>

#include "cimrobust/program.hpp"

namespace cimrobust::bindings {

namespace py = pybind11;

/// NumPy arrays are taken as they are: never converted, never copied.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

/// Views a one-dimensional contiguous array; raises ValueError that names it otherwise.
template <class T>
std::span<const T> view(const Array<T>& array, const char* name) {
    if (array.ndim() != 1) {
        throw py::value_error(std::string(name) + " must have 1 axis, got " + std::to_string(array.ndim()));
    }
    return {array.data(), static_cast<std::size_t>(array.size())};
}

/// As `view`, and the array must be writable.
template <class T>
std::span<T> writable(Array<T>& array, const char* name) {
    if (array.ndim() != 1 || !array.writeable()) {
        throw py::value_error(std::string(name) + " must be writable and have 1 axis, got " + std::to_string(array.ndim()) + " axes");
    }
    return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

/// Raises ValueError unless two lengths agree.
inline void require_length(std::size_t got, std::size_t expected, const char* name) {
    if (got != expected) {
        throw py::value_error(std::string(name) + " must have " + std::to_string(expected) + " values, got " + std::to_string(got));
    }
}

/// Raises ValueError unless the group indices fit n weights and the number of groups; with one group there may be none.
inline void require_groups(std::span<const std::int32_t> group, std::size_t size, std::size_t num_groups) {
    if (num_groups == 0) {
        throw py::value_error("scale must have at least 1 value, got 0");
    }
    if (group.empty() && (size == 0 || num_groups == 1)) {
        return;
    }
    require_length(group.size(), size, "group");
    for (const std::int32_t index : group) {
        if (index < 0 || static_cast<std::size_t>(index) >= num_groups) {
            throw py::value_error("group must index " + std::to_string(num_groups) + " scales, got " + std::to_string(index));
        }
    }
}

/// Raises ValueError unless slices of so many bits fit 31 bits together; each is looked at alone first, so that nothing overflows.
inline void require_slices(int num_slices, int bits_per_device, int most_bits) {
    if (num_slices < 1 || num_slices > 31 || bits_per_device < 1 || bits_per_device > most_bits || num_slices * bits_per_device > 31) {
        throw py::value_error("num_slices * bits_per_device must be in 1..31 and bits_per_device at most " + std::to_string(most_bits) +
                              ", got " + std::to_string(num_slices) + " * " + std::to_string(bits_per_device));
    }
}

/// The instruction set of a name, `best` for the widest; raises ValueError for one that is not here.
Simd simd_named(const std::string& name);

/// A quantile table of the right size.
QuantileTable table_of(const Array<float>& knots, const Array<float>& slopes);

void register_crossbar(py::module_& module);
void register_levels(py::module_& module);
void register_placement(py::module_& module);
void register_programming(py::module_& module);

}  // namespace cimrobust::bindings
