//! Models, and where they run.

use super::flag::{CLI, Flag, SERVE, already, instead, optional, same, value, words};
use super::values;

const FETCH: &str = "genarm downloads from the Hugging Face hub alone (--base hf:USER/REPO); fetch the GGUF, then give it with --base FILE";
const BY_NAME: &str = "name the model in place of a file, as in --base hf:USER/REPO[:QUANT]";
const TEXT_ONLY: &str = "genarm reads and writes text; images and sound are for llama.cpp's own tools";
const EMBEDDINGS: &str = "genarm generates text; run llama-server with an embedding model beside it";
const PLACE: &str = "whole layers are placed: --n-gpu-layers N, --device, --split-mode and --tensor-split";
const PROCESSORS: &str = "start genarm under taskset, nice or numactl; --threads N sets how many threads compute";
const ROPE: &str = "the context's scaling is read from the file; gguf_set_metadata.py of llama.cpp changes it there";
const OWN_CACHE: &str = "each slot has a KV cache of its own, of --n-ctx tokens; --parallel N makes N slots";
const CHECKPOINTS: &str = "under --swa-full sliding windows keep their whole cache, which needs no checkpoints";
const FITS: &str = "what does not fit is reported before anything is loaded; genarm inspect --plan shows where it goes";
const PRESET: &str = "name the model: --base FILE";

pub const FLAGS: &[Flag] = &[
    same(&["-m", "--model"], "base").variable("LLAMA_ARG_MODEL"),
    // `-hff` goes with it, so `hub` reads both before anything else.
    value(
        &["-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"],
        "`--base hf:USER/REPO[:QUANT]`; `pull` and `inspect` take it as a name (`LLAMA_ARG_HF_REPO`, `LLAMA_ARG_HF_FILE`)",
        values::hub,
    ),
    instead(&["-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"], BY_NAME),
    same(&["-hft", "--hf-token"], "hf-token"),
    instead(&["-mu", "--model-url", "-dr", "--docker-repo"], FETCH),
    instead(&["-hfv", "-hfrv", "--hf-repo-v", "-hffv", "--hf-file-v"], TEXT_ONLY),
    same(&["--offline"], "offline"),
    instead(&["-cl", "--cache-list"], "genarm models lists the models on this machine"),
    same(&["--lora"], "lora"),
    value(&["--lora-scaled"], "`--lora FILE:SCALE`", values::lora_scaled),
    instead(
        &["--control-vector", "--control-vector-scaled", "--control-vector-layer-range"],
        "steer with an ARM or a persona: --arm NAME=FILE, --persona NAME=TEXT",
    ),
    instead(
        &[
            "-mm",
            "--mmproj",
            "-mmu",
            "--mmproj-url",
            "--mmproj-auto",
            "--mmproj-offload",
            "-mmdev",
            "--mmproj-device",
            "--image",
            "--audio",
            "--video",
            "--image-min-tokens",
            "--image-max-tokens",
            "--mtmd-batch-max-tokens",
            "--video-fps",
            "--video-timestamp-interval",
            "--video-ffmpeg-dir",
        ],
        TEXT_ONLY,
    ),
    already(&["--no-mmproj", "--no-mmproj-auto", "--no-mmproj-offload"], "no projector is loaded"),
    same(&["-c", "--ctx-size"], "n-ctx").variable("LLAMA_ARG_CTX_SIZE"),
    same(&["-b", "--batch-size"], "n-batch").variable("LLAMA_ARG_BATCH"),
    same(&["-ub", "--ubatch-size"], "n-ubatch").variable("LLAMA_ARG_UBATCH"),
    same(&["-t", "--threads"], "threads").variable("LLAMA_ARG_THREADS"),
    same(&["-tb", "--threads-batch"], "threads-batch"),
    same(&["-ngl", "--gpu-layers", "--n-gpu-layers"], "n-gpu-layers").variable("LLAMA_ARG_N_GPU_LAYERS"),
    optional(&["-fa", "--flash-attn"], "the same; without a value `on`", values::flash_attn)
        .variable("LLAMA_ARG_FLASH_ATTN"),
    same(&["-fa", "--flash-attn"], "flash-attn").variable("LLAMA_ARG_FLASH_ATTN"),
    same(&["-ctk", "--cache-type-k"], "cache-type-k").variable("LLAMA_ARG_CACHE_TYPE_K"),
    same(&["-ctv", "--cache-type-v"], "cache-type-v").variable("LLAMA_ARG_CACHE_TYPE_V"),
    same(&["-dev", "--device"], "device").variable("LLAMA_ARG_DEVICE"),
    same(&["-sm", "--split-mode"], "split-mode").variable("LLAMA_ARG_SPLIT_MODE"),
    same(&["-mg", "--main-gpu"], "main-gpu").variable("LLAMA_ARG_MAIN_GPU"),
    same(&["-ts", "--tensor-split"], "tensor-split").variable("LLAMA_ARG_TENSOR_SPLIT"),
    same(&["--rpc"], "rpc").variable("LLAMA_ARG_RPC"),
    instead(&["--list-devices"], "genarm devices lists them"),
    same(&["--mmap"], "mmap"),
    words(&["--no-mmap"], &["--mmap=false"]),
    same(&["--mlock"], "mlock"),
    value(&["-lm", "--load-mode"], "`--mmap` and `--mlock`", values::load_mode).variable("LLAMA_ARG_LOAD_MODE"),
    value(&["-lzm", "--lazy-mode"], "`auto` is so already", values::lazy_mode),
    instead(&["-dio", "--direct-io", "-ndio", "--no-direct-io"], "--mmap=false reads the files without mapping them"),
    already(&["-kvo", "--kv-offload"], "the KV cache of a layer lies where the layer is"),
    instead(
        &["-nkvo", "--no-kv-offload"],
        "the KV cache of a layer lies where the layer is: --n-gpu-layers N moves both",
    ),
    already(&["--repack"], "weights are repacked where the processor gains by it"),
    instead(&["-nr", "--no-repack"], "weights are repacked where the processor gains by it, so leave it out"),
    instead(&["--no-host"], "buffers are llama.cpp's choice, so leave it out"),
    already(&["--op-offload"], "operations run where llama.cpp puts them"),
    instead(&["--no-op-offload"], "operations run where llama.cpp puts them, so leave it out"),
    instead(
        &["-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "-ncffn", "--n-cpu-ffn"],
        PLACE,
    ),
    value(
        &["-fit", "--fit"],
        "`on` is so already: `--n-gpu-layers auto`; `off` beside `-ngl N` and `-c N`",
        values::fit,
    ),
    instead(&["-fitt", "--fit-target", "-fitc", "--fit-ctx", "-fitp", "--fit-print"], FITS),
    instead(
        &["--check-tensors"],
        "files are checked before they are opened, and a model that computes NaN is named, so leave it out",
    ),
    instead(&["--override-kv"], "gguf_set_metadata.py of llama.cpp changes a file's metadata"),
    instead(
        &[
            "-C",
            "--cpu-mask",
            "-Cr",
            "--cpu-range",
            "--cpu-strict",
            "--prio",
            "--poll",
            "-Cb",
            "--cpu-mask-batch",
            "-Crb",
            "--cpu-range-batch",
            "--cpu-strict-batch",
            "--prio-batch",
            "--poll-batch",
            "--numa",
        ],
        PROCESSORS,
    ),
    instead(
        &[
            "--rope-scaling",
            "--rope-scale",
            "--rope-freq-base",
            "--rope-freq-scale",
            "--yarn-orig-ctx",
            "--yarn-ext-factor",
            "--yarn-attn-factor",
            "--yarn-beta-slow",
            "--yarn-beta-fast",
        ],
        ROPE,
    ),
    instead(
        &["-gan", "--grp-attn-n", "-gaw", "--grp-attn-w"],
        "attention is the model's own, so leave it out; --n-ctx N sets the context",
    ),
    value(&["-dt", "--defrag-thold"], "accepted: without effect in llama.cpp, too", values::defrag_thold),
    same(&["--swa-full"], "swa-full").variable("LLAMA_ARG_SWA_FULL"),
    value(&["-ctxcp", "--ctx-checkpoints", "--swa-checkpoints"], "`0` is so already", values::checkpoints),
    instead(&["-cms", "--checkpoint-min-step"], CHECKPOINTS),
    already(&["-no-kvu", "--no-kv-unified"], "each slot has a KV cache of its own, of --n-ctx tokens"),
    instead(&["-kvu", "--kv-unified", "--kv-unified-per-slot"], OWN_CACHE),
    value(&["-cram", "--cache-ram"], "`0` is so already", values::cache_ram),
    already(&["--no-cache-idle-slots"], "a slot keeps its cache until another prompt needs it"),
    instead(&["--cache-idle-slots"], "a slot keeps its cache until another prompt needs it, so leave it out"),
    already(&["--no-warmup"], "nothing is computed before the first prompt"),
    instead(&["--warmup"], "nothing is computed before the first prompt, so leave it out"),
    instead(&["-bs", "--backend-sampling"], "samplers run after guidance, on the processor, so leave it out"),
    instead(
        &["--pooling", "--attention", "--embedding", "--embeddings", "--rerank", "--reranking", "--embd-normalize"],
        EMBEDDINGS,
    ),
    instead(&["--embd-gemma-default"], EMBEDDINGS),
    instead(
        &[
            "--fim-qwen-1.5b-default",
            "--fim-qwen-3b-default",
            "--fim-qwen-7b-default",
            "--fim-qwen-7b-spec",
            "--fim-qwen-14b-spec",
            "--fim-qwen-30b-default",
            "--gpt-oss-20b-default",
            "--gpt-oss-120b-default",
        ],
        PRESET,
    ),
    instead(&["--vision-gemma-4b-default", "--vision-gemma-12b-default"], TEXT_ONLY),
    already(&["--no-perf", "--no-show-timings"], "no timings are printed unless --stats or --json asks for them")
        .of(CLI),
    instead(&["--perf", "--show-timings"], "generate --stats prints timings, and --json reports them").of(CLI),
    already(&["--no-perf", "--no-show-timings"], "answers have their timings, and the log has none").of(SERVE),
    instead(&["--perf", "--show-timings"], "each answer has its timings, so leave it out").of(SERVE),
];
