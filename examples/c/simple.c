/*
 * Continues a prompt with a base model in this program's own llama.cpp, guided by the ARMs of a YAML file.
 *
 *     cc examples/c/simple.c -Iinclude -I$LLAMA/include -I$LLAMA/ggml/include -L$LLAMA_LIB -lllama -Ltarget/release -lgenarm -o simple
 *     ./simple models/base.gguf models/demo.yaml "Once upon a time"
 */
#include "genarm.h"
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level >= GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static void genarm_or_die(genarm_status status) {
    if (status != GENARM_OK) {
        fprintf(stderr, "error: %s\n", genarm_last_error());
        exit(1);
    }
}

int main(int argc, char ** argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s BASE.gguf PREFS.yaml PROMPT\n", argv[0]);
        return 2;
    }
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        fprintf(stderr, "error: cannot load %s\n", argv[1]);
        return 1;
    }
    const struct llama_vocab * vocab = llama_model_get_vocab(model);

    /* The guidance, and a sampler from it, first in the chain. */
    genarm *               guidance = NULL;
    struct llama_sampler * sampler  = NULL;
    genarm_or_die(genarm_open_file(argv[2], NULL, NULL, &guidance));
    genarm_or_die(genarm_sampler_new(guidance, vocab, llama_sampler_init, &sampler));
    struct llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, sampler);
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx                       = 512;
    struct llama_context * ctx         = llama_init_from_model(model, params);

    llama_token tokens[512];
    int         n = llama_tokenize(vocab, argv[3], (int) strlen(argv[3]), tokens, 448, true, true);
    if (!ctx || n < 1) {
        fprintf(stderr, "error: no context, or a prompt of more than 448 tokens\n");
        return 1;
    }
    /* A sampler knows the text by what it is told: the prompt here, the rest by llama_sampler_sample. */
    for (int i = 0; i < n; i++) {
        llama_sampler_accept(chain, tokens[i]);
    }
    llama_token        token;
    struct llama_batch batch = llama_batch_get_one(tokens, n);
    for (int i = 0; i < 48 && llama_decode(ctx, batch) == 0; i++) {
        token = llama_sampler_sample(chain, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
        char piece[256];
        fwrite(piece, 1, (size_t) llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false), stdout);
        batch = llama_batch_get_one(&token, 1);
    }
    putchar('\n');

    llama_sampler_free(chain); /* frees the sampler too */
    genarm_or_die(genarm_close(guidance));
    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
