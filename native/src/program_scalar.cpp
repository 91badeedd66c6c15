#include "level_body.hpp"
#include "program_body.hpp"

namespace cimrobust {

namespace detail {

void program_scalar(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream,
                    std::span<float> programmed) {
    program_all<ScalarLanes>(layer, spec, table, stream, programmed);
}

void levels_scalar(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream,
                   const LevelOutput& output) {
    levels_all<ScalarLanes>(layer, spec, table, stream, output);
}

}  // namespace detail

void draw_deviations(std::size_t num_weights, std::size_t num_devices, const QuantileTable& table, StreamKey stream,
                     std::span<float> deviations) {
    for (std::size_t weight = 0; weight < num_weights; ++weight) {
        for (std::size_t device = 0; device < num_devices; ++device) {
            const PhiloxBlock words = philox({static_cast<std::uint32_t>(weight), static_cast<std::uint32_t>(device / 4),
                                              static_cast<std::uint32_t>(stream.trial), static_cast<std::uint32_t>(stream.trial >> 32)},
                                             stream.key);
            deviations[weight * num_devices + device] = quantile<ScalarLanes>(words[device % 4], table, kOnlyTable);
        }
    }
}

}  // namespace cimrobust
