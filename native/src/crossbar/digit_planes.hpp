#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "buffer.hpp"
#include "cimrobust/crossbar.hpp"
#include "crossbar/coding.hpp"
#include "sizes.hpp"

namespace cimrobust {
namespace {

/// The digits of a piece of the batch, padded, one copy a pass, columns sorted by their place within a stride.
template <class Lanes>
class DigitPlanes {
   public:
    DigitPlanes(const detail::ConvJob& job, const detail::ConvPiece& piece)
        : job_(job), piece_(piece), volume_(layout()), pass_size_(piece.num_images * job.geometry.channels * volume_),
          digits_(pass_size_ * static_cast<std::size_t>(job.input.num_passes) + 2 * Lanes::kWidth),
          row_(3 * rounded_up(length_[2], Lanes::kWidth) + Lanes::kWidth), row_offsets_(job.array.shape.rows) {
        list_rows();
    }

    const float* pass(int index) const { return digits_.get() + static_cast<std::size_t>(index) * pass_size_; }

    /// Outputs of one image along an axis.
    std::size_t outputs(std::size_t axis) const { return axis == job_.band_axis ? piece_.band_size : job_.geometry.out[axis]; }

    /// Where the receptive field of an output begins.
    std::size_t base(std::size_t image, std::size_t o0, std::size_t o1) const {
        const auto& stride = job_.geometry.stride;
        return image * job_.geometry.channels * volume_ + (o0 * stride[0] * length_[1] + o1 * stride[1]) * phases_ * width_;
    }

    /// Where word line `row` lies from the beginning of a receptive field.
    const std::size_t& row_offset(std::size_t row) const { return row_offsets_[row]; }

    /// Codes the activations of one group.
    void fill(std::size_t group) {
        const ConvGeometry& g = job_.geometry;
        for (std::size_t image = 0; image < piece_.num_images; ++image) {
            for (std::size_t channel = 0; channel < g.channels; ++channel) {
                const std::size_t plane =
                    (piece_.first_image + image) * job_.array.shape.groups * g.channels + group * g.channels + channel;
                const float* source = job_.x.data() + plane * g.in_volume();
                std::size_t target = (image * g.channels + channel) * volume_;
                for (std::size_t i0 = 0; i0 < length_[0]; ++i0) {
                    for (std::size_t i1 = 0; i1 < length_[1]; ++i1, target += phases_ * width_) {
                        fill_row(source, i0, i1, target);
                    }
                }
            }
        }
    }

   private:
    /// Sizes one channel of one image and returns its volume.
    std::size_t layout() {
        const ConvGeometry& g = job_.geometry;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::size_t begin = axis == job_.band_axis ? piece_.band_begin : 0;
            origin_[axis] = static_cast<std::ptrdiff_t>(begin * g.stride[axis]) - g.pad[axis];
            length_[axis] = (outputs(axis) - 1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis] + 1;
        }
        phases_ = g.stride[2];
        width_ = (length_[2] + phases_ - 1) / phases_;
        return length_[0] * length_[1] * phases_ * width_;
    }

    /// Lists where every word line of a group (channel, kernel position) lies from the beginning of a receptive field.
    void list_rows() {
        const ConvGeometry& g = job_.geometry;
        std::size_t row = 0;
        for (std::size_t channel = 0; channel < g.channels; ++channel) {
            for (std::size_t k0 = 0; k0 < g.kernel[0]; ++k0) {
                for (std::size_t k1 = 0; k1 < g.kernel[1]; ++k1) {
                    const std::size_t line = channel * volume_ + (k0 * g.dilation[0] * length_[1] + k1 * g.dilation[1]) * phases_ * width_;
                    for (std::size_t k2 = 0; k2 < g.kernel[2]; ++k2) {
                        const std::size_t column = k2 * g.dilation[2];
                        row_offsets_[row++] = line + column % phases_ * width_ + column / phases_;
                    }
                }
            }
        }
    }

    /// Codes one row of one channel, padding included, and spreads its digits over the passes.
    void fill_row(const float* source, std::size_t i0, std::size_t i1, std::size_t target) {
        const ConvGeometry& g = job_.geometry;
        const std::ptrdiff_t s0 = origin_[0] + static_cast<std::ptrdiff_t>(i0);
        const std::ptrdiff_t s1 = origin_[1] + static_cast<std::ptrdiff_t>(i1);
        const auto size0 = static_cast<std::ptrdiff_t>(g.in[0]);
        const auto size1 = static_cast<std::ptrdiff_t>(g.in[1]);
        const auto size2 = static_cast<std::ptrdiff_t>(g.in[2]);
        const bool inside = s0 >= 0 && s0 < size0 && s1 >= 0 && s1 < size1;
        const std::ptrdiff_t length = static_cast<std::ptrdiff_t>(length_[2]);
        const std::ptrdiff_t begin = inside ? smaller(larger(-origin_[2], std::ptrdiff_t{0}), length) : length;
        const std::ptrdiff_t end = inside ? larger(smaller(size2 - origin_[2], length), begin) : length;
        float* levels = row_.get();
        const float padding = level_of(0.0F, job_.input);
        fill_floats(levels, levels + begin, padding);
        if (end > begin) {
            const std::ptrdiff_t start = (s0 * size1 + s1) * size2 + origin_[2] + begin;
            code_levels<Lanes>(source + start, static_cast<std::size_t>(end - begin), job_.input, levels + begin);
        }
        fill_floats(levels + end, levels + length, padding);
        if (job_.input.num_passes == 1) {
            return scatter(levels, digits_.get() + target);
        }
        float* rest = levels + rounded_up(length_[2], Lanes::kWidth);
        float* digits = rest + rounded_up(length_[2], Lanes::kWidth);
        for (std::size_t i = 0; i < length_[2]; ++i) {
            rest[i] = std::fabs(levels[i]);
        }
        for (int pass = 0; pass < job_.input.num_passes; ++pass) {
            take_digit(rest, levels, length_[2], job_.input.bits_per_pass, digits);
            scatter(digits, digits_.get() + static_cast<std::size_t>(pass) * pass_size_ + target);
        }
    }

    static void fill_floats(float* from, const float* to, float value) {
        while (from != to) {
            *from++ = value;
        }
    }

    /// Writes one row of levels or digits, sorted by place within a stride.
    void scatter(const float* row, float* target) const {
        if (phases_ == 1) {
            std::memcpy(target, row, length_[2] * sizeof(float));
            return;
        }
        for (std::size_t i = 0; i < length_[2]; ++i) {
            target[i % phases_ * width_ + i / phases_] = row[i];
        }
    }

    const detail::ConvJob& job_;
    const detail::ConvPiece& piece_;
    /// First input coordinate on every axis; negative where it lies in the padding.
    std::ptrdiff_t origin_[3] = {0, 0, 0};
    /// Input coordinates on every axis that the outputs of the piece read, padding included.
    std::size_t length_[3] = {1, 1, 1};
    /// Places within a stride of the innermost axis; columns of one place lie together.
    std::size_t phases_ = 1;
    /// Columns of one place.
    std::size_t width_ = 1;
    /// Floats of one channel of one image.
    std::size_t volume_;
    /// Floats of one pass of the piece.
    std::size_t pass_size_;
    /// Digits: pass, image, channel, row, place, column; two registers of slack behind, which copies read.
    Buffer<float> digits_;
    /// Levels of one row, what is left of them after the digits taken, and one pass of digits.
    Buffer<float> row_;
    Buffer<std::size_t> row_offsets_;
};

}  // namespace
}  // namespace cimrobust
