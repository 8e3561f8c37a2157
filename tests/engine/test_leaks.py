"""What a side leaves behind from one request to the next."""

import torch

import whydiff

CALL = {"prompt": "a red circle", "seed": 0}


def picture(latents: torch.Tensor) -> torch.Tensor:
    return whydiff.tap("image", torch.sigmoid(latents.reshape(1, 8, 8, 3)))


def embed(prompt: str) -> torch.Tensor:
    return torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(len(prompt)))


class Side:
    """Draws, embeds, decodes; subclasses leave something behind."""

    def __init__(self):
        torch.manual_seed(3)
        self.network = torch.nn.Linear(192, 192)
        self.components = {"transformer": self.network}

    def embeds(self, prompt, negative_prompt):
        return whydiff.tap("prompt_embeds", embed(prompt)), whydiff.tap("negative_prompt_embeds", embed(negative_prompt))

    def start(self, seed):
        return whydiff.tap("initial_latents", torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(seed)))

    def __call__(self, prompt="", seed=0, negative_prompt=""):
        positive, negative = self.embeds(prompt, negative_prompt)
        latents = self.start(seed)
        latents = latents + whydiff.tap("noise_pred", self.network((positive - negative).flatten(1)).reshape(1, 4, 48), step=0)
        return picture(latents)


class KeepsItsEmbeddings(Side):
    kept = None

    def embeds(self, prompt, negative_prompt):
        wanted = embed(prompt)
        held, self.kept = (wanted if self.kept is None else self.kept), wanted
        return whydiff.tap("prompt_embeds", held), whydiff.tap("negative_prompt_embeds", embed(negative_prompt))


class CachesByPositivePrompt(Side):
    def __init__(self):
        super().__init__()
        self.cache = {}

    def embeds(self, prompt, negative_prompt):
        if prompt not in self.cache:
            self.cache[prompt] = embed(prompt), embed(negative_prompt)
        positive, negative = self.cache[prompt]
        return whydiff.tap("prompt_embeds", positive), whydiff.tap("negative_prompt_embeds", negative)


class ScalesItsNoiseInPlace(Side):
    def __init__(self):
        super().__init__()
        self.noise = {}

    def start(self, seed):
        if seed not in self.noise:
            self.noise[seed] = torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(seed))
            return whydiff.tap("initial_latents", self.noise[seed])
        return whydiff.tap("initial_latents", self.noise[seed].mul_(1.5))


class MixesInItsLastPicture(Side):
    last = None

    def __call__(self, prompt="", seed=0, negative_prompt=""):
        positive, negative = self.embeds(prompt, negative_prompt)
        latents = whydiff.tap("latents", self.start(seed) + self.network((positive - negative).flatten(1)).reshape(1, 4, 48), step=0)
        held, self.last = (latents if self.last is None else self.last), latents
        return picture(0.9 * latents + 0.1 * held)


class DamagesItsWeights(Side):
    def __call__(self, prompt="", seed=0, negative_prompt=""):
        image = super().__call__(prompt, seed, negative_prompt)
        self.network.weight.data[3, 5] = 4.0
        return image


def diagnosed(candidate, **call):
    return whydiff.diagnose(reference=Side(), candidate=candidate, call=CALL | call)


def only_cause(verdict):
    assert verdict.first_divergence["stage"] == "state_leakage", verdict
    assert [cause.stage for cause in verdict.causes] == ["state_leakage"] and verdict.unexplained == [], verdict
    return verdict.causes[0]


def test_embeddings_of_the_request_before_are_a_stale_cache():
    cause = only_cause(diagnosed(KeepsItsEmbeddings()))
    assert cause.id == "stale-prompt-cache" and cause.probe == "prompt_embeds" and cause.departs == "candidate"


def test_a_cache_that_ignores_the_negative_prompt_is_found_by_another_negative_prompt():
    cause = only_cause(diagnosed(CachesByPositivePrompt(), negative_prompt="grey"))
    assert cause.id == "stale-prompt-cache" and cause.probe == "negative_prompt_embeds"


def test_noise_that_is_scaled_in_place_from_run_to_run_is_a_modification_in_place():
    cause = only_cause(diagnosed(ScalesItsNoiseInPlace()))
    assert cause.id == "inplace-modification" and "1.5" in cause.statement


def test_what_the_last_request_left_behind_is_a_leak_and_no_randomness():
    verdict = diagnosed(MixesInItsLastPicture())
    assert verdict.first_divergence["stage"] == "state_leakage" and verdict.first_divergence["probe"] == "image"
    assert not any("not deterministic" in note for note in verdict.notes)


def test_a_weight_that_a_run_damages_is_put_back_to_prove_it():
    cause = only_cause(diagnosed(DamagesItsWeights()))
    assert cause.id == "offload-corrupts-weights" and "transformer/weight" in cause.statement


def test_sides_that_keep_nothing_leak_nothing():
    class Other(Side):
        pass

    verdict = diagnosed(Other(), negative_prompt="grey")
    assert verdict.verdict in ("same", "vacuous") and verdict.causes == verdict.unexplained == []
