/* A program of its own on llama.cpp that knows nothing of genarm: continues PROMPT greedily by 24 tokens. host BASE.gguf PROMPT */
#include "llama.h"

#include <stdio.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level >= GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int main(int argc, char ** argv) {
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(argc == 4 ? argv[3] : NULL);
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return 1;
    }
    const struct llama_vocab * vocab = llama_model_get_vocab(model);
    struct llama_sampler *     chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    struct llama_context * ctx = llama_init_from_model(model, llama_context_default_params());
    llama_token            tokens[256];
    int                    n = llama_tokenize(vocab, argv[2], (int) strlen(argv[2]), tokens, 200, true, true);
    for (int i = 0; i < n; i++) {
        llama_sampler_accept(chain, tokens[i]);
    }
    llama_token        token;
    struct llama_batch batch = llama_batch_get_one(tokens, n);
    for (int i = 0; i < 24 && llama_decode(ctx, batch) == 0; i++) {
        token = llama_sampler_sample(chain, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
        char piece[256];
        fwrite(piece, 1, (size_t) llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false), stdout);
        batch = llama_batch_get_one(&token, 1);
    }
    putchar('\n');
    llama_sampler_free(chain);
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
