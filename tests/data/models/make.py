"""Writes the model folders of the suite, and what PyTorch makes of them.

    python3 -m venv VENV
    VENV/bin/pip install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0
    VENV/bin/python tests/data/models/make.py            # all of them
    VENV/bin/python tests/data/models/make.py bert_mean  # these

`minilm.f32` beside this file are sentence-transformers' vectors of the sentences of the demo, from all-MiniLM-L6-v2,
made with `minilm()`. `cases/` are five folders with answers from elsewhere.

Each folder is a tiny model with random weights, saved by the library that would publish it, and an `expected.json`:
questions and answers. Answers are computed in f64, one text at a time (a batch that is padded on the left changes
BERT's positions), because in f32 they differ by 5e-6 between machines.
"""

import json
import shutil
import sys
import zlib
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import pipeline

assert transformers.__version__ == "5.24.0", transformers.__version__
assert sentence_transformers.__version__ == "6.2.0", sentence_transformers.__version__

HERE = Path(__file__).parent
OUT = HERE / "fixtures"
POSITIONS = 32
HIDDEN = 12

# Empty, one token, more than fits, accents and signs of other scripts, an emoji of several code points, special tokens
# as text, and lengths in between.
TEXTS = [
    "the cat sat on the mat",
    "",
    "a",
    "Héllo wörld, 你好! 👩‍🚀 ok",
    "cat [SEP] mat </s> dog",
    "a dog and a cat and a mat and the dog sat on the cat that sat on the mat and ran and ran and ran",
    "dog ran",
]
PAIRS = [
    ("the cat", "sat on the mat"),
    ("cat", ""),
    ("", "dog"),
    ("a", "a dog and a cat and a mat and the dog sat on the cat that sat on the mat and ran and ran and ran"),
    ("wörld 👩‍🚀", "ok [SEP] cat"),
]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "and", "ran", "that", "ok", "##s", "##ed", ",", "!", "你", "好"]


def wordpiece(first):
    words = dict.fromkeys([*first, *WORDS, *LETTERS, *("##" + c for c in LETTERS)])
    return {w: i for i, w in enumerate(words)}


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_tokenizer(**kwargs):
    return transformers.BertTokenizer(vocab=wordpiece(BERT), model_max_length=POSITIONS, **kwargs)


def byte_bpe(first):
    """Bytes as tokens, and a few merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("a", "t"), ("c", "at"), ("Ġ", "cat"), ("d", "o"), ("do", "g")]
    pieces = [*first, *alphabet, *("".join(m) for m in merges)]
    return {p: i for i, p in enumerate(dict.fromkeys(pieces))}, merges


def roberta_tokenizer(**kwargs):
    vocab, merges = byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return transformers.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=POSITIONS - 2, **kwargs)


def unigram(first):
    words = ["▁the", "▁cat", "▁sat", "▁on", "▁mat", "▁dog", "▁and", "▁ran", "▁", "at", "og", "é", "ö", "👩", *LETTERS]
    return [(piece, 0.0) for piece in first] + [(word, -2.0 - i / 8) for i, word in enumerate(words)]


def xlm_roberta_tokenizer():
    vocab = unigram(["<s>", "<pad>", "</s>", "<unk>"]) + [("<mask>", 0.0)]
    return transformers.XLMRobertaTokenizer(vocab=vocab, model_max_length=POSITIONS - 2)


def camembert_tokenizer():
    vocab = unigram(["<s>", "<pad>", "</s>", "<unk>"]) + [("<mask>", 0.0)]
    return transformers.CamembertTokenizer(vocab=vocab, model_max_length=POSITIONS - 2, additional_special_tokens=[])


def mpnet_tokenizer():
    vocab = wordpiece(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])
    return transformers.MPNetTokenizer(vocab=vocab, model_max_length=POSITIONS - 2)


def generic_tokenizer(around, pad, **kwargs):
    """Byte pairs behind the class that knows nothing of its model."""
    first = [token for token in dict.fromkeys([*around.values(), pad]) if token]
    vocab, merges = byte_bpe(first)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start = f"{around['cls_token']} " if around.get("cls_token") else ""
    end = around["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}$A {end}",
        pair=f"{start}$A {end} $B {end}",
        special_tokens=[(token, vocab[token]) for token in around.values() if token],
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in first])
    named = {key: token for key, token in around.items() if token}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=POSITIONS, pad_token=pad or None, **named, **kwargs
    )


def modernbert_tokenizer(**kwargs):
    return generic_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"}, "[PAD]", **kwargs)


def qwen_tokenizer(**kwargs):
    return generic_tokenizer({"sep_token": "<|endoftext|>"}, "<|endoftext|>", padding_side="left", **kwargs)


def randomize(model):
    """Numbers large enough that whatever is computed otherwise shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(torch.randn(parameter.shape) * (0.2 if parameter.ndim == 1 else 0.35) + (1.0 if norm else 0))
    return model


SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 14}


def family(name, tokenizer, **settings):
    """Config and tokenizer of a family; `settings` over its small sizes."""
    vocab = len(tokenizer)
    common = {**SIZES, "vocab_size": vocab, "max_position_embeddings": POSITIONS}
    t = transformers
    own = {
        "bert": lambda: t.BertConfig(**{**common, **settings}),
        "electra": lambda: t.ElectraConfig(**{**common, "embedding_size": 8, **settings}),
        "roberta": lambda: t.RobertaConfig(**{**common, "layer_norm_eps": 1e-5, "type_vocab_size": 1, **settings}),
        "xlm_roberta": lambda: t.XLMRobertaConfig(**{**common, "type_vocab_size": 1, **settings}),
        "camembert": lambda: t.CamembertConfig(**{**common, "type_vocab_size": 1, **settings}),
        "mpnet": lambda: t.MPNetConfig(**{**common, "layer_norm_eps": 1e-5, **settings}),
        "modernbert": lambda: t.ModernBertConfig(
            **{
                **common,
                "num_hidden_layers": 4,
                "local_attention": 6,
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.cls_token_id,
                "cls_token_id": tokenizer.cls_token_id,
                "eos_token_id": tokenizer.sep_token_id,
                "sep_token_id": tokenizer.sep_token_id,
                **settings,
            }
        ),
        "nomic_bert": lambda: t.NomicBertConfig(**{**common, **settings}),
        "qwen3": lambda: t.Qwen3Config(
            **{
                **common,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 6,
                "pad_token_id": tokenizer.pad_token_id,
                **settings,
            }
        ),
        "distilbert": lambda: t.DistilBertConfig(
            vocab_size=vocab, max_position_embeddings=POSITIONS, dim=HIDDEN, n_layers=2, n_heads=2, hidden_dim=14, **settings
        ),
    }
    return own[name]()


TOKENIZERS = {
    "bert": bert_tokenizer,
    "electra": bert_tokenizer,
    "roberta": roberta_tokenizer,
    "xlm_roberta": xlm_roberta_tokenizer,
    "camembert": camembert_tokenizer,
    "mpnet": mpnet_tokenizer,
    "modernbert": modernbert_tokenizer,
    "nomic_bert": bert_tokenizer,
    "qwen3": qwen_tokenizer,
    "distilbert": lambda: transformers.DistilBertTokenizer(vocab=wordpiece(BERT), model_max_length=POSITIONS),
}


def numbers(tensor):
    return [float(f"{value:.9g}") for value in torch.as_tensor(tensor).double().flatten().tolist()]


def count(tokenizer, text, pair=None):
    """Tokens of the whole text."""
    return len(tokenizer(text, pair, truncation=False, verbose=False)["input_ids"])


class Fixture:
    def __init__(self, name, base="bert", tokenizer=None, **settings):
        self.folder = OUT / name
        shutil.rmtree(self.folder, ignore_errors=True)
        torch.manual_seed(zlib.crc32(name.encode()))
        self.tokenizer = tokenizer or TOKENIZERS[base]()
        self.config = family(base, self.tokenizer, **settings)

    def save(self, auto, **kwargs):
        """Saves a model of this kind as transformers does."""
        model = randomize(auto.from_config(self.config))
        model.save_pretrained(self.folder, **kwargs)
        self.tokenizer.save_pretrained(self.folder)
        return self

    def sentence(self, *modules, **kwargs):
        """Saves it once more as sentence-transformers does, with the modules after the encoder."""
        self.save(transformers.AutoModel)
        for module in modules:
            randomize(module)
        model = SentenceTransformer(modules=[Transformer(str(self.folder)), *modules], device="cpu", **kwargs)
        model.save(str(self.folder), create_model_card=False)
        return self

    def edit(self, file, change):
        """What older versions wrote, or other hands."""
        path = self.folder / file
        value = json.loads(path.read_text()) if path.exists() else {}
        value = change(value) or value
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=1))
        return self

    def rename(self, change, file="model.safetensors"):
        """The same weights under other names."""
        path = self.folder / file
        tensors = load_file(path)
        save_file({change(name): tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
        return self

    def expect(self, kind, asks, limit=None):
        (self.folder / "README.md").unlink(missing_ok=True)
        for file in self.folder.rglob("*.json"):
            file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")
        text = json.dumps({"kind": kind, "limit": limit, "asks": asks}, ensure_ascii=False, indent=None)
        (self.folder / "expected.json").write_text(text.replace('{"text"', '\n{"text"') + "\n")
        print(self.folder.name, kind, len(asks))

    def embed(self, prompts=(None,), texts=TEXTS):
        model = SentenceTransformer(
            str(self.folder), device="cpu", model_kwargs={"dtype": torch.float64, "attn_implementation": "eager"}
        ).double()
        asks = []
        for prompt in prompts:
            for text in texts:
                vector = model.encode([text], prompt_name=prompt, convert_to_tensor=True)[0]
                before = model.prompts.get(prompt or model.default_prompt_name) or ""
                tokens = count(model.tokenizer, before + text)
                asks.append({"text": text, "prompt": prompt, "tokens": tokens, "vector": numbers(vector)})
        self.expect("embed", asks, model.max_seq_length)

    def embed_by_transformers(self, texts=TEXTS):
        """The mean of the vectors, where sentence-transformers cannot pad."""
        model = transformers.AutoModel.from_pretrained(self.folder, dtype=torch.float64, attn_implementation="eager")
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)
        asks = []
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=POSITIONS, return_tensors="pt")
            with torch.no_grad():
                vector = model(**ids).last_hidden_state[0].mean(dim=0)
            asks.append({"text": text, "prompt": None, "tokens": count(tokenizer, text), "vector": numbers(vector)})
        self.expect("embed", asks, POSITIONS)

    def rerank(self, pairs=PAIRS):
        model = CrossEncoder(
            str(self.folder), device="cpu", model_kwargs={"dtype": torch.float64, "attn_implementation": "eager"}
        )
        asks = []
        for text, pair in pairs:
            scores = model.predict([(text, pair)], convert_to_tensor=True)[0]
            tokens = len(model.tokenizer([[text, pair]], truncation=False, verbose=False)["input_ids"][0])
            asks.append({"text": text, "pair": pair, "tokens": tokens, "scores": numbers(scores)})
        self.expect("pair", asks, model.max_seq_length)

    def pipe(self, task):
        auto = {
            "text-classification": transformers.AutoModelForSequenceClassification,
            "token-classification": transformers.AutoModelForTokenClassification,
        }[task]
        model = auto.from_pretrained(self.folder, dtype=torch.float64, attn_implementation="eager")
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)
        return pipeline(task, model=model, tokenizer=tokenizer, device="cpu")

    def classify(self, texts=TEXTS):
        pipe = self.pipe("text-classification")
        names = pipe.model.config.id2label
        asks = []
        for text in texts:
            found = {it["label"]: it["score"] for it in pipe(text, top_k=None, truncation=True)}
            scores = [found[names[i]] for i in range(len(names))]
            asks.append({"text": text, "tokens": count(pipe.tokenizer, text), "scores": numbers(scores)})
        self.expect("classify", asks, pipe.tokenizer.model_max_length)

    def label(self, texts=TEXTS):
        pipe = self.pipe("token-classification")
        asks = []
        for text in texts:
            if count(pipe.tokenizer, text) > pipe.tokenizer.model_max_length:
                continue  # the pipeline does not cut
            found = pipe(text, ignore_labels=[]) if text else []
            labels = [[it["entity"], float(f"{it['score']:.9g}"), it["start"], it["end"]] for it in found]
            asks.append({"text": text, "tokens": count(pipe.tokenizer, text), "labels": labels})
        self.expect("label", asks, pipe.tokenizer.model_max_length)


AUTO = transformers.AutoModel
SEQUENCE = transformers.AutoModelForSequenceClassification
TOKEN = transformers.AutoModelForTokenClassification
THREE = {"id2label": {0: "red", 1: "green", 2: "blue"}, "label2id": {"red": 0, "green": 1, "blue": 2}}
ENTITIES = {
    "id2label": {0: "O", 1: "B-PER", 2: "I-PER"},
    "label2id": {"O": 0, "B-PER": 1, "I-PER": 2},
}
ONE = {"num_labels": 1}
FIXTURES = {}


def fixture(make):
    FIXTURES[make.__name__] = make
    return make


def pooled(name, *modes):
    def make(name):
        Fixture(name).sentence(Pooling(HIDDEN, pooling_mode=modes if len(modes) > 1 else modes[0])).embed()

    FIXTURES[name] = make


pooled("bert_cls", "cls")
pooled("bert_max", "max")
pooled("bert_mean_sqrt", "mean_sqrt_len_tokens")
pooled("bert_weighted", "weightedmean")
pooled("bert_last", "lasttoken")


@fixture
def bert_mean(name):
    Fixture(name).sentence(Pooling(HIDDEN, "mean"), Normalize()).embed()


@fixture
def bert_joined_dense(name):
    modules = [Pooling(HIDDEN, ("max", "cls", "mean")), Dense(3 * HIDDEN, 6), Dense(6, 5, activation_function=torch.nn.ReLU())]
    Fixture(name).sentence(*modules, Normalize()).embed()


@fixture
def bert_norm_truncated(name):
    dense = Dense(HIDDEN, 9, bias=False, activation_function=torch.nn.Identity())
    kwargs = {"truncate_dim": 7, "similarity_fn_name": "dot"}
    made = Fixture(name).sentence(Pooling(HIDDEN, "mean"), dense, LayerNorm(9), Normalize(), **kwargs)
    made.edit("config_sentence_transformers.json", lambda it: it.update(truncate_dim=7))
    made.embed()


@fixture
def bert_without_modules(name):
    Fixture(name).save(AUTO).embed()


@fixture
def bert_old_form(name):
    """As sentence-transformers 2 wrote it: a limit of its own, no settings for Normalize, lower case before a cased
    tokenizer."""
    made = Fixture(name, tokenizer=bert_tokenizer(do_lower_case=False)).sentence(Pooling(HIDDEN, "mean"), Normalize())
    old = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(old)
    ]
    made.edit("modules.json", lambda _: modules)
    made.edit("sentence_bert_config.json", lambda it: it.clear() or {"max_seq_length": 9, "do_lower_case": True})
    pooling = {
        "word_embedding_dimension": HIDDEN,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": True,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    made.edit("1_Pooling/config.json", lambda it: it.clear() or pooling)
    shutil.rmtree(made.folder / "2_Normalize")
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}
    made.edit("config_sentence_transformers.json", lambda it: it.clear() or {"__version__": versions})
    made.embed()


PROMPTS = {"query": "the dog: ", "document": "", "clustering": "cat and mat"}


@fixture
def bert_prompts(name):
    made = Fixture(name).sentence(Pooling(HIDDEN, "mean"), prompts=PROMPTS, default_prompt_name="clustering")
    made.embed(prompts=(None, "query", "document"))


@fixture
def bert_prompts_left_out(name):
    made = Fixture(name).sentence(Pooling(HIDDEN, ("mean", "cls", "lasttoken", "max"), include_prompt=False), prompts=PROMPTS)
    # Without a token of its own a text has nothing that is pooled.
    made.embed(prompts=(None, "query", "clustering"))


@fixture
def bert_prompts_left_out_weighted(name):
    made = Fixture(name).sentence(Pooling(HIDDEN, "weightedmean", include_prompt=False), prompts=PROMPTS)
    made.embed(prompts=("query",))


@fixture
def bert_of_masked_words(name):
    """Saved with the head that it was trained with, whose weights are the vocabulary's."""
    Fixture(name).save(transformers.AutoModelForMaskedLM).embed()


@fixture
def bert_old_names(name):
    old = lambda n: "bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    Fixture(name).save(AUTO).rename(old).embed()


@fixture
def bert_one_type(name):
    Fixture(name, type_vocab_size=1).save(AUTO).embed()


@fixture
def bert_padded_left(name):
    Fixture(name, tokenizer=bert_tokenizer(padding_side="left", truncation_side="left")).save(AUTO).embed()


@fixture
def bert_without_padding(name):
    tokenizer = generic_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"}, None)
    Fixture(name, tokenizer=tokenizer, pad_token_id=None).save(AUTO).embed_by_transformers()


@fixture
def bert_relu(name):
    Fixture(name, hidden_act="relu").save(AUTO).embed()


@fixture
def bert_gelu_new(name):
    Fixture(name, hidden_act="gelu_new").save(AUTO).embed()


@fixture
def bert_sharded(name):
    Fixture(name).save(AUTO, max_shard_size="8KB").embed()


def stored(name, dtype):
    def make(name):
        made = Fixture(name).save(AUTO)
        path = made.folder / "model.safetensors"
        tensors = {key: value.to(dtype) for key, value in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
        made.edit("config.json", lambda it: it.update(dtype=str(dtype).removeprefix("torch.")))
        made.embed()

    FIXTURES[name] = make


stored("bert_f16", torch.float16)
stored("bert_bf16", torch.bfloat16)


@fixture
def bert_several_labels(name):
    Fixture(name, problem_type="multi_label_classification", **THREE).save(SEQUENCE).classify()


@fixture
def bert_regression(name):
    Fixture(name, problem_type="regression", **ONE).save(SEQUENCE).classify()


@fixture
def bert_one_label(name):
    Fixture(name, **ONE).save(SEQUENCE).classify()


@fixture
def bert_cross_encoder(name):
    made = Fixture(name, **ONE).save(SEQUENCE)
    CrossEncoder(str(made.folder), device="cpu").save_pretrained(str(made.folder), create_model_card=False)
    made.rerank()


@fixture
def bert_cross_encoder_identity(name):
    """As version 3 wrote it."""
    made = Fixture(name, **ONE).save(SEQUENCE)
    key = "sbert_ce_default_activation_function"
    made.edit("config.json", lambda it: it.update({key: "torch.nn.modules.linear.Identity"})).rerank()


@fixture
def bert_cross_encoder_labels(name):
    """As version 4 wrote it."""
    made = Fixture(name, **THREE).save(SEQUENCE)
    settings = {"activation_fn": "torch.nn.modules.activation.Tanh", "version": "4.1.0"}
    made.edit("config.json", lambda it: it.update({"sentence_transformers": settings})).rerank()


@fixture
def roberta_cross_encoder(name):
    Fixture(name, "roberta", **ONE).save(SEQUENCE).rerank()


@fixture
def xlm_roberta_cross_encoder(name):
    Fixture(name, "xlm_roberta", **ONE).save(SEQUENCE).rerank()


@fixture
def modernbert_mean_head(name):
    made = Fixture(name, "modernbert", classifier_pooling="mean", classifier_bias=True, norm_bias=True, **THREE)
    made.save(SEQUENCE).classify()


@fixture
def modernbert_biases(name):
    """With every bias that it may have, and the settings as they were before transformers 5."""
    made = Fixture(name, "modernbert", norm_bias=True, attention_bias=True, mlp_bias=True).save(AUTO)

    def old(it):
        for key in ["layer_types", "rope_parameters", "dtype"]:
            it.pop(key, None)
        it.update(global_attn_every_n_layers=2, global_rope_theta=1000.0, local_rope_theta=100.0, torch_dtype="float32")

    made.edit("config.json", old).embed()


@fixture
def nomic_bert_published(name):
    """With the settings' keys of the published folders; the answers are those of the same weights under transformers'
    keys."""
    made = Fixture(name, "nomic_bert").sentence(Pooling(HIDDEN, "mean"), Normalize())
    made.embed()
    published = {
        "activation_function": "swiglu",
        "architectures": ["NomicBertModel"],
        "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "model_type": "nomic_bert",
        "n_embd": HIDDEN,
        "n_head": 2,
        "n_inner": 14,
        "n_layer": 2,
        "n_positions": POSITIONS,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "scale_attn_weights": True,
        "type_vocab_size": 2,
        "use_rms_norm": False,
        "vocab_size": len(made.tokenizer),
    }
    made.edit("config.json", lambda it: it.clear() or published)


for base in ["electra", "roberta", "xlm_roberta", "camembert", "distilbert", "mpnet", "modernbert", "nomic_bert", "qwen3"]:

    def embedding(name, base=base):
        last = base == "qwen3"
        Fixture(name, base).sentence(Pooling(HIDDEN, "lasttoken" if last else "mean"), Normalize()).embed()

    FIXTURES[f"{base}_embedding"] = embedding

for base in TOKENIZERS:

    def sequence(name, base=base):
        Fixture(name, base, **THREE).save(SEQUENCE).classify()

    def token(name, base=base):
        Fixture(name, base, **ENTITIES).save(TOKEN).label()

    FIXTURES[f"{base}_sequence"] = sequence
    FIXTURES[f"{base}_token"] = token


def minilm(folder):
    """Writes the vectors of the demo's sentences: f32, little endian, one after the other."""
    model = SentenceTransformer(
        folder, device="cpu", model_kwargs={"dtype": torch.float64, "attn_implementation": "eager"}
    ).double()
    lines = (HERE / ".." / ".." / "examples" / "embed" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    vectors = [model.encode([line.strip()], convert_to_tensor=True)[0] for line in lines if line.strip()]
    (HERE / "minilm.f32").write_bytes(torch.stack(vectors).float().numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    failed = []
    for name in sys.argv[1:] or FIXTURES:
        try:
            FIXTURES[name](name)
        except Exception as error:  # noqa: BLE001
            failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}")
    sys.exit(f"failed: {failed}" if failed else 0)
