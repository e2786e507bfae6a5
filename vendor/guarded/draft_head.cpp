// A model's own head for drafting (multi-token prediction, MTP), for callers that are not C++: llama.cpp declares a part of it with C++
// linkage, in src/llama-ext.h, and all of it may throw.

#include <cstddef>
#include <cstdint>

struct llama_context;
struct llama_batch_ext;

struct llama_embd {
    const float * data;
    size_t n_rows;
    size_t n_embd;
};

enum llama_process_type {
    LLAMA_PROCESS_TYPE_ENCODE,
    LLAMA_PROCESS_TYPE_DECODE,
};

extern "C" {
    int32_t llama_batch_ext_add_token(llama_batch_ext * batch, int32_t seq_id, int32_t id);
    bool    llama_batch_ext_set_embd_token(llama_batch_ext * batch, int32_t idx, llama_embd embd);
    bool    llama_batch_ext_set_output_logits(llama_batch_ext * batch, int32_t idx, bool value);
    bool    llama_batch_ext_set_pos(llama_batch_ext * batch, int32_t idx, const int32_t * pos);
    int32_t llama_process(llama_context * ctx, llama_process_type type, llama_batch_ext * batch);
}

void    llama_set_embeddings_nextn(llama_context * ctx, bool value, bool masked);
float * llama_get_embeddings_nextn(llama_context * ctx);

// Lets a context keep the states that a head reads, or no longer: of all tokens of a batch, or with `masked` of those that get logits.
extern "C" void genarm_guarded_keep_states(llama_context * ctx, bool keep, bool masked) noexcept {
    llama_set_embeddings_nextn(ctx, keep, masked);
}

// The states that the last batch left, in its order; null where there are none.
extern "C" const float * genarm_guarded_states(llama_context * ctx) noexcept {
    try {
        return llama_get_embeddings_nextn(ctx);
    } catch (...) {
        return nullptr;
    }
}

// Adds a token of the only sequence, and the state of the token before it.
extern "C" bool genarm_guarded_add(
    llama_batch_ext * batch, int32_t token, int32_t pos, const float * state, size_t n_embd, bool output) noexcept {
    try {
        const int32_t idx = llama_batch_ext_add_token(batch, 0, token);
        return idx >= 0 && llama_batch_ext_set_pos(batch, idx, &pos) && llama_batch_ext_set_output_logits(batch, idx, output) &&
               llama_batch_ext_set_embd_token(batch, idx, { state, 1, n_embd });
    } catch (...) {
        return false;
    }
}

// As llama_decode; -1 also where llama.cpp throws.
extern "C" int32_t genarm_guarded_decode(llama_context * ctx, llama_batch_ext * batch) noexcept {
    try {
        return llama_process(ctx, LLAMA_PROCESS_TYPE_DECODE, batch);
    } catch (...) {
        return -1;
    }
}
