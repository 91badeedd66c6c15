#include <cmath>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "cimrobust/levels.hpp"
#include "cimrobust/program.hpp"

namespace {

using cimrobust::Faults;
using cimrobust::LevelCoding;
using cimrobust::LevelSpec;
using cimrobust::QuantileTable;
using cimrobust::Simd;
using cimrobust::StreamKey;

constexpr LevelCoding kSigned{3, 2, false, true, 63, 0, false};
constexpr LevelCoding kPair{3, 2, true, false, 63, 0, false};
constexpr LevelCoding kOffset{4, 2, false, false, 63, 64, true};

/// Tables of which that of level l deviates by l + 1 tenths of a level from -1 to 1.
struct Tables {
    std::vector<float> knots;
    std::vector<float> slopes;

    explicit Tables(std::size_t num_tables) : knots(num_tables * QuantileTable::kSize), slopes(knots.size()) {
        for (std::size_t i = 0; i < knots.size(); ++i) {
            const std::size_t place = i % QuantileTable::kHalfSize;
            const float width = 0.1F * static_cast<float>(i / QuantileTable::kSize + 1);
            const float sign = (i / QuantileTable::kHalfSize) % 2 == 0 ? -1.0F : 1.0F;
            const auto size = static_cast<float>(QuantileTable::kHalfSize);
            knots[i] = sign * width * (1.0F - static_cast<float>(place) / size);
            slopes[i] = -sign * width / size;
        }
    }
    QuantileTable view() const { return {knots, slopes}; }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

std::vector<float> weights(std::size_t size) {
    std::vector<float> values(size);
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = static_cast<float>(i % 127) - 63.0F;
        values[i] = values[i] == 0.0F ? 0.0F : values[i];
    }
    return values;
}

struct Chip {
    std::vector<float> programmed;
    std::vector<float> devices;
};

Chip program(const std::vector<float>& nominal, const LevelSpec& spec, const Tables& tables, Simd simd) {
    const std::vector<float> scale{1.0F};
    const std::vector<float> lo(nominal.size(), -3.0F);
    const std::vector<float> hi(nominal.size(), 3.0F);
    Chip chip{std::vector<float>(nominal.size()), std::vector<float>(nominal.size() * static_cast<std::size_t>(spec.coding.num_devices()))};
    cimrobust::program_levels({nominal, {}, scale, lo, hi}, spec, tables.view(), StreamKey{42, 7}, simd, {chip.programmed, chip.devices});
    return chip;
}

void every_instruction_set_gives_the_same_bits() {
    for (const std::size_t size : {0U, 1U, 7U, 16U, 33U, 500U}) {
        for (const std::size_t num_tables : {1U, 4U}) {
            const Tables tables(num_tables);
            for (const LevelCoding& coding : {kSigned, kPair, kOffset}) {
                for (const Faults& faults : {Faults{}, Faults{9, 0x20000000U, 0xA0000000U, 3.0F}}) {
                    const LevelSpec spec{coding, true, faults};
                    const Chip expected = program(weights(size), spec, tables, Simd::kScalar);
                    for (int level = 1; level <= static_cast<int>(cimrobust::best_simd()); ++level) {
                        const Chip got = program(weights(size), spec, tables, static_cast<Simd>(level));
                        CHECK(same_bits(expected.programmed, got.programmed));
                        CHECK(same_bits(expected.devices, got.devices));
                    }
                }
            }
        }
    }
}

void devices_add_up_to_the_weight() {
    const Tables tables(4);
    const auto nominal = weights(127);
    for (const LevelCoding& coding : {kSigned, kPair, kOffset}) {
        const Chip chip = program(nominal, LevelSpec{coding, false, Faults{}}, tables, cimrobust::best_simd());
        for (std::size_t i = 0; i < nominal.size(); ++i) {
            double sum = -static_cast<double>(coding.level_offset);
            for (int device = 0; device < coding.num_devices(); ++device) {
                const bool negative = device >= coding.num_slices;
                const double weight = std::ldexp(negative ? -1.0 : 1.0, 2 * (negative ? device - coding.num_slices : device));
                sum += weight * static_cast<double>(chip.devices[static_cast<std::size_t>(device) * nominal.size() + i]);
            }
            const double sign = coding.mirrors_negative && nominal[i] < 0.0F ? -1.0 : 1.0;
            CHECK(std::fabs(sign * sum - static_cast<double>(chip.programmed[i])) < 1e-4);
        }
    }
}

void devices_deviate_by_the_table_of_their_level() {
    const auto nominal = weights(127);
    std::vector<float> targets(127 * 3);
    const std::vector<float> scale{1.0F};
    cimrobust::emit_levels(nominal, {}, scale, kSigned, targets);
    const LevelSpec spec{kSigned, false, Faults{}};
    const Chip one = program(nominal, spec, Tables(1), cimrobust::best_simd());
    const Chip four = program(nominal, spec, Tables(4), cimrobust::best_simd());
    for (std::size_t i = 0; i < targets.size(); ++i) {
        CHECK(one.devices[i] != targets[i]);
        CHECK(std::fabs((four.devices[i] - targets[i]) - (targets[i] + 1.0F) * (one.devices[i] - targets[i])) < 1e-5F);
    }
}

void stuck_devices_sit_at_their_level_and_are_not_clamped() {
    const Tables tables(1);
    const auto nominal = weights(127);
    const Chip low = program(nominal, LevelSpec{kSigned, true, Faults{9, 0xFFFFFFFFU, 0, 3.0F}}, tables, cimrobust::best_simd());
    const Chip high = program(nominal, LevelSpec{kSigned, true, Faults{9, 0, 0xFFFFFFFFU, 3.0F}}, tables, cimrobust::best_simd());
    for (std::size_t i = 0; i < nominal.size(); ++i) {
        CHECK(low.programmed[i] == 0.0F);
        CHECK(high.programmed[i] == (nominal[i] < 0.0F ? -63.0F : 63.0F));
    }
    for (std::size_t i = 0; i < low.devices.size(); ++i) {
        CHECK(low.devices[i] == 0.0F && high.devices[i] == 3.0F);
    }
}

void boxes_add_up_the_bounds_of_the_levels() {
    const std::vector<float> nominal{2.0F * 27.0F, 2.0F * -27.0F};  // 27 = 3 + 4 * 2 + 16 * 1
    const std::vector<double> scale{2.0};
    const std::vector<double> low{-0.5, -0.25, -0.125, 0.0};
    const std::vector<double> high{0.0, 1.0, 2.0, 4.0};
    std::vector<float> lo(2);
    std::vector<float> hi(2);
    cimrobust::emit_level_box(nominal, {}, scale, low, high, kSigned, lo, hi);
    const float sum_low = 2.0F * (0.0F - 4.0F * 0.125F - 16.0F * 0.25F);
    const float sum_high = 2.0F * (4.0F + 4.0F * 2.0F + 16.0F);
    CHECK(lo[0] == sum_low && hi[0] == sum_high);
    CHECK(lo[1] == -sum_high && hi[1] == -sum_low);
    cimrobust::emit_level_box(nominal, {}, scale, low, high, kPair, lo, hi);
    CHECK(lo[0] == sum_low && hi[0] == sum_high + 2.0F * 21.0F * 0.5F);
    CHECK(lo[1] == -hi[0] && hi[1] == -lo[0]);
}

void remainders_belong_to_slice_0() {
    const std::vector<float> nominal{5.25F, -5.25F, 0.0F};
    const std::vector<float> scale{1.0F};
    std::vector<float> levels(12);
    cimrobust::emit_levels(nominal, {}, scale, kOffset, levels);
    CHECK(levels[0] == 1.25F && levels[1] == 2.75F && levels[2] == 0.0F);  // 69.25, 58.75, 64
    CHECK(levels[3] == 1.0F && levels[4] == 2.0F && levels[5] == 0.0F);
}

void a_scale_of_zero_is_level_zero() {
    const std::vector<float> nominal{0.0F};
    const std::vector<float> scale{0.0F};
    std::vector<float> levels(3);
    cimrobust::emit_levels(nominal, {}, scale, kSigned, levels);
    CHECK(levels == std::vector<float>(3, 0.0F));
}

}  // namespace

int main() {
    every_instruction_set_gives_the_same_bits();
    devices_add_up_to_the_weight();
    devices_deviate_by_the_table_of_their_level();
    stuck_devices_sit_at_their_level_and_are_not_clamped();
    boxes_add_up_the_bounds_of_the_levels();
    remainders_belong_to_slice_0();
    a_scale_of_zero_is_level_zero();
    return 0;
}
