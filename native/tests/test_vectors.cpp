#include <doctest/doctest.h>

#include "reference_product.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

/// Every instruction set and number of threads against plain loops.
void check(const Product& product, std::size_t num_vectors, Values& values) {
    const ArrayShape& shape = product.shape;
    CAPTURE(num_vectors);
    CAPTURE(shape.groups);
    CAPTURE(shape.rows);
    CAPTURE(shape.cols);
    CAPTURE(shape.tile_rows);
    const auto x = values.floats(num_vectors * shape.groups * shape.rows);
    std::vector<float> expected;
    for (std::size_t vector = 0; vector < num_vectors; ++vector) {
        for (std::size_t group = 0; group < shape.groups; ++group) {
            for (std::size_t col = 0; col < shape.cols; ++col) {
                const std::span<const float> rows(x.data() + (vector * shape.groups + group) * shape.rows, shape.rows);
                expected.push_back(product(group, col, vector, rows));
            }
        }
    }
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        for (const int threads : {1, 3}) {
            CAPTURE(level);
            CAPTURE(threads);
            std::vector<float> y(num_vectors * shape.num_columns());
            const PackedArray array = product.pack(ColumnSide::kLanes, static_cast<Simd>(level));
            multiply_vectors(x, num_vectors, array, product.input, product.output(), product.noise(), threads, y);
            CHECK(first_difference(y, expected) == kSame);
        }
    }
}

void check_shape(const ArrayShape& shape, std::size_t num_vectors) {
    Values values(shape.rows * 100 + shape.cols);
    for (const bool is_noisy : {false, true}) {
        for (const bool converts : {false, true}) {
            check(Product(shape, values, is_noisy, converts), num_vectors, values);
        }
    }
}

}  // namespace

TEST_CASE("one cell and one vector") { check_shape({1, 1, 1, 1, 1}, 1); }

TEST_CASE("no vector at all") { check_shape({1, 3, 2, 3, 1}, 0); }

TEST_CASE("columns at the edges of register blocks") {
    for (const std::size_t cols : {2U, 3U, 4U, 8U, 23U, 24U, 25U, 47U, 48U, 49U, 97U}) {
        check_shape({1, 5, cols, 5, 1}, 3);
    }
}

TEST_CASE("numbers of vectors at the edges of register blocks and of pieces") {
    for (const std::size_t vectors : {3U, 4U, 5U, 7U, 8U, 9U, 63U, 64U, 65U, 130U}) {
        check_shape({1, 6, 5, 4, 1}, vectors);
    }
}

TEST_CASE("tiles of one word line, of all of them and of more than there are") {
    for (const std::size_t tile_rows : {1U, 6U, 7U, 12U, 13U, 14U, 128U}) {
        check_shape({1, 13, 5, tile_rows, 1}, 6);
    }
}

TEST_CASE("groups, planes and tiles together") { check_shape({3, 20, 50, 7, 2}, 67); }

TEST_CASE("a round that does not fit the cache in one piece") { check_shape({1, 3000, 10, 3000, 1}, 20); }

TEST_CASE("digits one after the other, and a reference column") {
    Values values(3);
    Product product({2, 11, 26, 4, 2}, values, true, true);
    product.input = {true, 5.0F, 0.0F, -15.0F, 15.0F, 2, 2};
    product.input_sum_gain = 0.5F;
    check(product, 9, values);
    product.input = {true, 9.0F, 3.0F, 0.0F, 127.0F, 7, 1};
    check(product, 9, values);
}

TEST_CASE("activations that are not rounded, and a reference column") {
    Values values(4);
    Product product({1, 11, 26, 4, 1}, values, false, false);
    product.input = InputCoding{};
    product.input_sum_gain = -0.25F;
    check(product, 9, values);
}

TEST_CASE("noise goes by the number of the vector, through calls and beyond 2^32") {
    Values values(5);
    Product product({1, 5, 4, 5, 1}, values, true, false);
    product.first_vector = (std::uint64_t{1} << 32) - 3;
    check(product, 6, values);
    constexpr std::size_t kRows = 5;
    constexpr std::size_t kCols = 4;
    const auto x = values.floats(6 * kRows);
    const PackedArray array = product.pack(ColumnSide::kLanes, best_simd());
    std::vector<float> whole(6 * kCols);
    std::vector<float> parts(6 * kCols);
    multiply_vectors(x, 6, array, product.input, product.output(), product.noise(), 1, whole);
    const std::span<const float> from(x);
    const std::span<float> to(parts);
    multiply_vectors(from.first(4 * kRows), 4, array, product.input, product.output(), product.noise(), 1, to.first(4 * kCols));
    product.first_vector += 4;
    multiply_vectors(from.subspan(4 * kRows), 2, array, product.input, product.output(), product.noise(), 1, to.subspan(4 * kCols));
    CHECK(first_difference(whole, parts) == kSame);
}
