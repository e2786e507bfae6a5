// llama_tokenize for callers that are not C++: it may throw (std::regex, memory), and an exception must not leave C++.

#include <cstdint>

struct llama_vocab;

extern "C" int32_t llama_tokenize(
    const llama_vocab * vocab, const char * text, int32_t text_len, int32_t * tokens, int32_t n_tokens_max,
    bool add_special, bool parse_special);

extern "C" int32_t genarm_guarded_tokenize(
    const llama_vocab * vocab, const char * text, int32_t text_len, int32_t * tokens, int32_t n_tokens_max, int32_t * count) noexcept {
    try {
        *count = llama_tokenize(vocab, text, text_len, tokens, n_tokens_max, false, false);
        return 0;
    } catch (...) {
        return 1;
    }
}
