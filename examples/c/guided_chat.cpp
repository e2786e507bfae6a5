// A conversation on standard input, guided; "/helpful 1.2" sets a weight for the answers from then on.
//
//     c++ -std=c++17 examples/c/guided_chat.cpp -Iinclude -I$LLAMA/include -I$LLAMA/ggml/include
//         -L$LLAMA_LIB -lllama -Ltarget/release -lgenarm -o guided_chat
//     printf 'Tell me a story.\n/cheerful 0\nAnother.\n' | ./guided_chat models/base.gguf models/demo.yaml
#include "genarm.h"
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

static void check(genarm_status status) {
    if (status != GENARM_OK) {
        std::cerr << "error: " << genarm_last_error() << '\n';
        std::exit(1);
    }
}

template <auto function> struct Deleter {
    template <class T> void operator()(T * pointer) const { function(pointer); }
};
template <class T, auto function> using Owned = std::unique_ptr<T, Deleter<function>>;

static std::vector<llama_token> tokenize(const llama_vocab * vocab, const std::string & text, bool first) {
    std::vector<llama_token> tokens(text.size() + 8);
    const int n = llama_tokenize(vocab, text.data(), (int) text.size(), tokens.data(), (int) tokens.size(), first, true);
    tokens.resize(n > 0 ? n : 0);
    return tokens;
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " BASE.gguf PREFS.yaml\n";
        return 2;
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level >= GGML_LOG_LEVEL_ERROR) std::cerr << text; }, nullptr);
    llama_backend_init();
    Owned<llama_model, llama_model_free> model(llama_model_load_from_file(argv[1], llama_model_default_params()));
    if (!model) {
        std::cerr << "error: cannot load " << argv[1] << '\n';
        return 1;
    }
    auto params  = llama_context_default_params();
    params.n_ctx = 1024;
    Owned<llama_context, llama_free> ctx(llama_init_from_model(model.get(), params));
    const llama_vocab * vocab = llama_model_get_vocab(model.get());

    genarm * opened = nullptr;
    check(genarm_open_file(argv[2], nullptr, nullptr, &opened));
    Owned<genarm, genarm_close> guidance(opened);
    check(genarm_watch(guidance.get())); // the file may be edited meanwhile

    llama_sampler * sampler = nullptr;
    check(genarm_sampler_new(guidance.get(), vocab, llama_sampler_init, &sampler));
    Owned<llama_sampler, llama_sampler_free> chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    llama_sampler_chain_add(chain.get(), sampler);
    llama_sampler_chain_add(chain.get(), llama_sampler_init_greedy());

    bool first = true;
    for (std::string line; std::getline(std::cin, line);) {
        if (!line.empty() && line[0] == '/') {
            const auto space = line.find(' ');
            const auto name  = line.substr(1, space == std::string::npos ? space : space - 1);
            const auto value = space == std::string::npos ? 1.0f : std::strtof(line.c_str() + space, nullptr);
            if (genarm_sampler_set_weight(sampler, name.c_str(), value) != GENARM_OK) {
                std::cerr << genarm_last_error() << '\n';
            }
            continue;
        }
        auto turn = tokenize(vocab, (first ? "" : "\n") + line, first);
        first     = false;
        for (const auto token : turn) {
            llama_sampler_accept(chain.get(), token);
        }
        llama_token token;
        auto        batch = llama_batch_get_one(turn.data(), (int) turn.size());
        for (int i = 0; i < 32 && llama_decode(ctx.get(), batch) == 0; i++) {
            token = llama_sampler_sample(chain.get(), ctx.get(), -1);
            if (llama_vocab_is_eog(vocab, token)) {
                break;
            }
            char      piece[256];
            const int n = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false);
            std::cout.write(piece, n > 0 ? n : 0);
            batch = llama_batch_get_one(&token, 1);
        }
        std::cout << std::endl;
    }
}
