// Calls an ncnn bundle from C++, and checks it with the bundle's golden pictures: docs/phones.md.
//
//     c++ -O2 -std=c++11 ncnn_caller.cpp -I NCNN/include/ncnn -L NCNN/lib -lncnn -fopenmp -o ncnn_caller
//     ./ncnn_caller model.param model.bin pictures.u8 logits.f32
//
// pictures.u8 holds pictures as the model takes them, uint8 RGB, one after the other; logits.f32 holds float32 answers.
// Exit code 1 where a logit differs by more than 0.05, 2 where a file is not what it should be.

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "net.h"

namespace {

const float ALLOWED = 0.05f;  // what edgepress allows a float engine

std::vector<unsigned char> read(const std::string& path)
{
    std::ifstream file(path.c_str(), std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return std::vector<unsigned char>(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// Sizes of the pictures, from the line of the input: `Input in0 0 1 in0 0=3 1=WIDTH 2=HEIGHT`.
void size_of(const std::string& graph, int& width, int& height)
{
    const size_t line = graph.find("Input ");
    const char* form = "Input %*s 0 1 %*s 0=3 1=%d 2=%d";
    if (line == std::string::npos || std::sscanf(graph.c_str() + line, form, &width, &height) != 2)
        throw std::runtime_error("the .param file has no input of three colours; make it by `edgepress compile`");
}

class Tagger
{
public:
    Tagger(const std::string& param, const std::string& weights, int threads)
    {
        const std::vector<unsigned char> text = read(param);
        const std::string graph(text.begin(), text.end());
        size_of(graph, width_, height_);
        // By default ncnn computes in half precision where the processor can, and answers otherwise than what was
        // verified. Layers in INT8 are marked in the file; in a float network there are none.
        ncnn::Option& option = net_.opt;
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = false;
        option.use_bf16_packed = option.use_bf16_storage = false;
        option.use_vulkan_compute = false;
        option.num_threads = threads;
        if (net_.load_param(param.c_str()) != 0 || net_.load_model(weights.c_str()) != 0)
            throw std::runtime_error(param + ": ncnn cannot load it");
    }

    int bytes() const { return 3 * width_ * height_; }

    // The logits of one picture: uint8 RGB, row after row, already as large as the model takes it.
    std::vector<float> operator()(const unsigned char* pixels) const
    {
        ncnn::Mat input(3, width_, height_);  // the graph begins with colours last
        for (int y = 0; y < height_; y++)
        {
            float* row = input.channel(y);
            for (int i = 0; i < 3 * width_; i++) row[i] = *pixels++;
        }
        ncnn::Extractor run = net_.create_extractor();
        ncnn::Mat output;
        if (run.input("in0", input) != 0 || run.extract("out0", output) != 0)
            throw std::runtime_error("ncnn cannot answer");
        const ncnn::Mat flat = output.reshape(output.w * output.h * output.c);
        return std::vector<float>(static_cast<const float*>(flat), static_cast<const float*>(flat) + flat.w);
    }

private:
    ncnn::Net net_;
    int width_ = 0, height_ = 0;
};

}  // namespace

int main(int count, char** words)
{
    try
    {
        if (count != 5) throw std::runtime_error("expected model.param model.bin pictures.u8 logits.f32");
        const Tagger tagger(words[1], words[2], 1);
        const std::vector<unsigned char> pictures = read(words[3]), stored = read(words[4]);
        const size_t number = pictures.size() / tagger.bytes();
        const size_t labels = stored.size() / sizeof(float) / (number ? number : 1);
        if (number == 0 || pictures.size() % tagger.bytes() != 0 || stored.size() != number * labels * sizeof(float))
            throw std::runtime_error("the pictures or the logits are of another model");
        const float* expected = reinterpret_cast<const float*>(stored.data());
        float largest = 0;
        bool near = true;
        for (size_t i = 0; i < number; i++)
        {
            const std::vector<float> logits = tagger(&pictures[i * tagger.bytes()]);
            if (logits.size() != labels) throw std::runtime_error("the model gives another number of labels");
            for (size_t c = 0; c < labels; c++)
            {
                const float difference = std::fabs(logits[c] - expected[i * labels + c]);
                near = near && difference <= ALLOWED;  // false for NaN
                largest = difference > largest ? difference : largest;
            }
        }
        std::printf("%zu pictures, %zu labels: a logit differs by at most %g%s\n", number, labels, largest,
                    near ? "" : ", or more: the engine answers otherwise than where it was made");
        return near ? 0 : 1;
    }
    catch (const std::exception& error)
    {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
