/* A host whose base runs elsewhere. It reads, again and again, a number n, n tokens and a row of logits; puts the row through its chain
 * of samplers; and writes the row. `host TOKENS` knows nothing of genarm. With GUIDED it is `guided-host TOKENS CONFIG PROFILE
 * WEIGHTS` and adds genarm's sampler to its chain itself. */
#ifdef GUIDED
#include "../../include/genarm.h"
#endif
#include "../capi/nothing.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef GUIDED
static genarm * guidance;

static void ok(genarm_status status) {
    if (status != GENARM_OK) {
        fprintf(stderr, "%s\n", genarm_last_error());
        exit(1);
    }
}
#endif

int main(int argc, char ** argv) {
    struct llama_model * model = argc >= 2 ? llama_model_load(argv[1]) : NULL;
    if (!model) {
        return 3;
    }
    const struct llama_vocab * vocab   = llama_model_get_vocab(model);
    const int32_t              n_vocab = llama_vocab_n_tokens(vocab);
    struct llama_sampler *     chain   = llama_sampler_chain_init((struct llama_sampler_chain_params) { true });
#ifdef GUIDED
    struct llama_sampler * sampler = NULL;
    ok(genarm_open_file(argv[2], argv[3][0] ? argv[3] : NULL, argv[4], &guidance));
    ok(genarm_sampler_new(guidance, vocab, llama_sampler_init, &sampler));
    llama_sampler_chain_add(chain, sampler);
#endif
    llama_sampler_chain_add(chain, llama_sampler_init(&nothing, NULL));
    float *            row  = calloc((size_t) n_vocab, sizeof *row);
    llama_token_data * data = calloc((size_t) n_vocab, sizeof *data);
    int32_t            n, token;
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        for (int32_t i = 0; i < n && fread(&token, sizeof token, 1, stdin) == 1; i++) {
            llama_sampler_accept(chain, token);
        }
        if (fread(row, sizeof *row, (size_t) n_vocab, stdin) != (size_t) n_vocab) {
            return 4;
        }
        for (int32_t id = 0; id < n_vocab; id++) {
            data[id] = (llama_token_data) { id, row[id], 0 };
        }
        llama_token_data_array array = { data, (size_t) n_vocab, -1, false };
        llama_sampler_apply(chain, &array);
        for (size_t i = 0; i < array.size; i++) {
            row[data[i].id] = data[i].logit;
        }
        fwrite(row, sizeof *row, (size_t) n_vocab, stdout);
        fflush(stdout);
    }
    llama_sampler_free(chain);
#ifdef GUIDED
    ok(genarm_close(guidance));
#endif
    free(row);
    free(data);
    llama_model_free(model);
    return 0;
}
