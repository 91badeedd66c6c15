#include "arrays.hpp"

PYBIND11_MODULE(_native, module) {
    module.doc() = "Crossbar variation kernel.";
    cimrobust::bindings::register_crossbar(module);
    cimrobust::bindings::register_levels(module);
    cimrobust::bindings::register_placement(module);
    cimrobust::bindings::register_programming(module);
}
