/*
 * The C structs that a llama.cpp host and a sampler in another library share.
 *
 * A sampler written outside llama.cpp meets its host through four structs and nothing else: no function,
 * no other type. They are declared here by hand, so that the plugin's side of the
 * agreement is on one page and does not move when the llama.cpp built into genarm does. The Rust
 * build binds this file, and src/sampling/abi.rs proves at compile time that it has the layout
 * of the llama.h in the pinned llama-cpp-sys-2. README.md tells how versions differ.
 */
#ifndef LLAMA_SAMPLER_ABI_H
#define LLAMA_SAMPLER_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An index into the vocabulary, 0 .. n_vocab - 1. */
typedef int32_t llama_token;

/* Types that only pass through a sampler: never looked into on this side. */
struct ggml_backend_buffer_type;
struct ggml_context;
struct ggml_cgraph;
struct ggml_tensor;
struct llama_sampler_data;

/* One candidate for the next token. 12 bytes. */
typedef struct llama_token_data {
    llama_token id;
    float       logit;
    float       p; /* probability; undefined until some sampler has computed it */
} llama_token_data;

/* The candidates of one step. At the head of a chain: all of the vocabulary, unsorted. */
typedef struct llama_token_data_array {
    llama_token_data * data;     /* a sampler may point this elsewhere */
    size_t             size;     /* and make this smaller */
    int64_t            selected; /* place in data (not a token id) of the token drawn; -1: none yet */
    bool               sorted;   /* true: by logit, largest first; to be cleared by whoever changes logits */
} llama_token_data_array;

struct llama_sampler;

/*
 * The functions of a sampler. The first six are as old as the interface. The rest came later, for samplers that
 * run inside the compute graph of a backend; all of them may be NULL in a sampler that does not.
 */
typedef struct llama_sampler_i {
    const char *           (*name)  (const struct llama_sampler * sampler);                  /* or NULL */
    void                   (*accept)(struct llama_sampler * sampler, llama_token token);     /* or NULL */
    void                   (*apply) (struct llama_sampler * sampler, llama_token_data_array * candidates);
    void                   (*reset) (struct llama_sampler * sampler);                        /* or NULL */
    struct llama_sampler * (*clone) (const struct llama_sampler * sampler);                  /* NULL only without ctx */
    void                   (*free)  (struct llama_sampler * sampler);                        /* NULL only without ctx */

    bool (*backend_init)     (struct llama_sampler * sampler, struct ggml_backend_buffer_type * buffer_type,
                              uint32_t n_outputs_max_per_seq);
    void (*backend_accept)   (struct llama_sampler * sampler, struct ggml_context * ctx, struct ggml_cgraph * graph,
                              struct ggml_tensor * selected_token);
    void (*backend_apply)    (struct llama_sampler * sampler, struct ggml_context * ctx, struct ggml_cgraph * graph,
                              struct llama_sampler_data * data);
    void (*backend_set_input)(struct llama_sampler * sampler);
    void (*backend_reset)    (struct llama_sampler * sampler);
    void (*copy_state)       (const struct llama_sampler * source, struct llama_sampler * destination);
} llama_sampler_i;

/* A sampler: its functions, and what they work on. The host reads iface and leaves ctx alone. */
typedef struct llama_sampler {
    llama_sampler_i * iface;
    void *            ctx;
} llama_sampler;

#endif
