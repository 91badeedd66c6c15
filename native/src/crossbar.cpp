#include "cimrobust/crossbar.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <thread>

namespace cimrobust {

namespace {

// Output positions that one piece should have at least, so that no lanes are wasted on small images.
constexpr std::size_t kPiecePositions = 3072;
// Digits of one piece should not take more than this.
constexpr std::size_t kPieceFloats = std::size_t{1} << 20;
constexpr std::size_t kPieceVectors = 64;

/// Threads that are waited for at the end of a scope. The standard library of macOS has no std::jthread yet.
class JoinedThreads {
   public:
    JoinedThreads() = default;
    JoinedThreads(const JoinedThreads&) = delete;
    JoinedThreads& operator=(const JoinedThreads&) = delete;
    JoinedThreads(JoinedThreads&&) = delete;
    JoinedThreads& operator=(JoinedThreads&&) = delete;
    ~JoinedThreads() {
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    template <typename Work>
    void start(const Work& work, std::size_t worker) {
        threads_.emplace_back(work, worker);
    }

   private:
    std::vector<std::thread> threads_;
};

/// Runs work(0) .. work(count - 1) on up to `threads` threads; the first error is thrown again.
void spread(std::size_t count, int threads, const std::function<void(std::size_t)>& work) {
    const std::size_t workers = std::min<std::size_t>(count, static_cast<std::size_t>(std::max(threads, 1)));
    if (workers <= 1) {
        for (std::size_t i = 0; i < count; ++i) {
            work(i);
        }
        return;
    }
    std::atomic<std::size_t> next{0};
    std::vector<std::exception_ptr> errors(workers);
    const auto loop = [&](std::size_t worker) {
        try {
            for (std::size_t i = next++; i < count; i = next++) {
                work(i);
            }
        } catch (...) {
            errors[worker] = std::current_exception();
            next = count;
        }
    };
    {
        JoinedThreads others;
        for (std::size_t worker = 1; worker < workers; ++worker) {
            others.start(loop, worker);
        }
        loop(0);
    }
    for (const auto& error : errors) {
        if (error) {
            std::rethrow_exception(error);
        }
    }
}

/// Cuts a batch into pieces: several small images, one image, or bands of a large one; no thread should be left without one.
std::vector<detail::ConvPiece> pieces_of(const ConvGeometry& g, const InputCoding& input, std::size_t band_axis, int threads) {
    const std::size_t full = g.out[band_axis];
    const std::size_t image_floats = g.channels * g.in_volume() * static_cast<std::size_t>(input.num_passes);
    std::vector<detail::ConvPiece> pieces;
    if (image_floats > kPieceFloats && full > 1) {
        const std::size_t bands = std::min(full, (image_floats + kPieceFloats - 1) / kPieceFloats);
        const std::size_t size = (full + bands - 1) / bands;
        for (std::size_t image = 0; image < g.batch; ++image) {
            for (std::size_t begin = 0; begin < full; begin += size) {
                pieces.push_back({image, 1, begin, std::min(size, full - begin)});
            }
        }
        return pieces;
    }
    const std::size_t wanted = (kPiecePositions + g.out_volume() - 1) / g.out_volume();
    const std::size_t most = std::max<std::size_t>(kPieceFloats / std::max<std::size_t>(image_floats, 1), 1);
    const std::size_t workers = static_cast<std::size_t>(std::max(threads, 1));
    const std::size_t count = std::min({wanted, most, (g.batch + workers - 1) / workers});
    for (std::size_t image = 0; image < g.batch; image += count) {
        pieces.push_back({image, std::min(count, g.batch - image), 0, full});
    }
    return pieces;
}

/// Copies values of planes * tiles * columns so that every group's columns fill whole register blocks.
std::vector<float> padded_columns(std::span<const float> values, const ArrayShape& shape, std::size_t lanes) {
    const std::size_t padded = (shape.cols + lanes - 1) / lanes * lanes;
    const std::size_t lines = values.size() / std::max<std::size_t>(shape.cols, 1);
    std::vector<float> copy(lines * padded);
    for (std::size_t line = 0; line < lines; ++line) {
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(line * shape.cols), shape.cols,
                    copy.begin() + static_cast<std::ptrdiff_t>(line * padded));
    }
    return copy;
}

}  // namespace

BlockSize block_size(Simd simd) {
    switch (simd) {
        case Simd::kAvx512:
            return {8, 48};
        case Simd::kAvx2:
            return {4, 24};
        case Simd::kScalar:
            break;
    }
    return {4, 3};
}

std::size_t PackedArray::block_cols() const {
    const BlockSize size = block_size(simd);
    return side == ColumnSide::kRows ? size.rows : size.lanes;
}

std::size_t PackedArray::block_width(std::size_t index) const {
    return side == ColumnSide::kLanes ? block_cols() : std::min(block_cols(), shape.cols - index * block_cols());
}

std::size_t PackedArray::offset(std::size_t group, std::size_t tile, std::size_t plane, std::size_t block) const {
    const std::size_t width = side == ColumnSide::kLanes ? num_blocks() * block_cols() : shape.cols;
    const std::size_t depth = std::min(shape.tile_rows, shape.rows - tile * shape.tile_rows);
    return width * (group * shape.rows * shape.planes + tile * shape.tile_rows * shape.planes + plane * depth) +
           block * block_cols() * depth;
}

namespace {

void pack_cells(const PackedArray& array, const CellStrides& strides, std::span<const std::span<const float>> planes,
                std::vector<float>& packed) {
    const ArrayShape& shape = array.shape;
    const std::size_t width = array.side == ColumnSide::kLanes ? array.num_blocks() * array.block_cols() : shape.cols;
    packed.assign(width * shape.groups * shape.rows * shape.planes, 0.0F);
    for (std::size_t group = 0; group < shape.groups; ++group) {
        for (std::size_t tile = 0; tile < shape.num_row_tiles(); ++tile) {
            const std::size_t first_row = tile * shape.tile_rows;
            const std::size_t depth = std::min(shape.tile_rows, shape.rows - first_row);
            for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                for (std::size_t block = 0; block < array.num_blocks(); ++block) {
                    const std::size_t first_col = block * array.block_cols();
                    const std::size_t used = std::min(array.block_cols(), shape.cols - first_col);
                    const float* from = planes[plane].data() + group * strides.group + first_row * strides.row + first_col * strides.col;
                    float* to = packed.data() + array.offset(group, tile, plane, block);
                    const std::size_t stored = array.block_width(block);
                    for (std::size_t row = 0; row < depth; ++row) {
                        for (std::size_t col = 0; col < used; ++col) {
                            to[row * stored + col] = from[row * strides.row + col * strides.col];
                        }
                    }
                }
            }
        }
    }
}

}  // namespace

PackedArray pack_array(const ArrayShape& shape, const CellStrides& strides, std::span<const std::span<const float>> planes,
                       std::span<const std::span<const float>> variances, ColumnSide side, Simd simd) {
    PackedArray array;
    array.shape = shape;
    array.side = side;
    array.simd = simd;
    pack_cells(array, strides, planes, array.levels);
    if (!variances.empty()) {
        pack_cells(array, strides, variances, array.variances);
    }
    return array;
}

void multiply_conv(std::span<const float> x, const ConvGeometry& geometry, const PackedArray& array, const InputCoding& input,
                   const OutputCoding& output, const ReadNoise& noise, int threads, std::span<float> y) {
    if (y.empty()) {
        return;
    }
    const bool is_volume = geometry.in[0] > 1 || geometry.out[0] > 1;
    const detail::ConvJob job{x, geometry, array, input, output, noise, y, is_volume ? std::size_t{0} : std::size_t{1}};
    const auto pieces = pieces_of(geometry, input, job.band_axis, threads);
    spread(pieces.size(), threads, [&](std::size_t index) {
#ifdef CIMROBUST_X86
        if (array.simd == Simd::kAvx512) {
            return detail::conv_avx512(job, pieces[index]);
        }
        if (array.simd == Simd::kAvx2) {
            return detail::conv_avx2(job, pieces[index]);
        }
#endif
        detail::conv_scalar(job, pieces[index]);
    });
}

void multiply_vectors(std::span<const float> x, std::size_t num_vectors, const PackedArray& array, const InputCoding& input,
                      const OutputCoding& output, const ReadNoise& noise, int threads, std::span<float> y) {
    if (y.empty()) {
        return;
    }
    const std::size_t lanes = block_size(array.simd).lanes;
    const std::vector<float> gain = padded_columns(output.gain, array.shape, lanes);
    const std::vector<float> inverse_step = padded_columns(output.inverse_step, array.shape, lanes);
    OutputCoding padded = output;
    padded.gain = gain;
    padded.inverse_step = inverse_step;
    const detail::VectorJob job{x, num_vectors, array, input, padded, noise, y};
    spread((num_vectors + kPieceVectors - 1) / kPieceVectors, threads, [&](std::size_t index) {
        const std::size_t begin = index * kPieceVectors;
        const std::size_t end = std::min(begin + kPieceVectors, num_vectors);
#ifdef CIMROBUST_X86
        if (array.simd == Simd::kAvx512) {
            return detail::vectors_avx512(job, begin, end);
        }
        if (array.simd == Simd::kAvx2) {
            return detail::vectors_avx2(job, begin, end);
        }
#endif
        detail::vectors_scalar(job, begin, end);
    });
}

}  // namespace cimrobust
