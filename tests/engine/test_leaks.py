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


class KeepsAnEarlierNegative(Side):
    """Its cache was filled by a request with the same prompt and another negative prompt."""

    def __init__(self):
        super().__init__()
        self.cache = {CALL["prompt"]: (embed(CALL["prompt"]), embed("a long word"))}

    embeds = CachesByPositivePrompt.embeds


class SkipsInItsFirstRequest(Side):
    """A step cache whose counter is used up by the first request."""

    calls = 0

    def __call__(self, prompt="", seed=0, negative_prompt=""):
        latents, positive = self.start(seed), self.embeds(prompt, negative_prompt)[0]
        for step in range(4):
            if step != 2 or self.calls > 4 or not self.skips:
                self.held = self.network((latents + positive).flatten(1)).reshape(1, 4, 48)
            self.calls += 1
            latents = latents + whydiff.tap("noise_pred", self.held, step=step)
        return picture(latents)

    skips = True


class SkipsInEach(SkipsInItsFirstRequest):
    def __call__(self, prompt="", seed=0, negative_prompt=""):
        self.calls = 0
        return super().__call__(prompt, seed, negative_prompt)


class RacesForItsWeights(Side):
    """At one step of each run, another one each time, a layer still holds its neighbour's weights."""

    def __init__(self, races=True):
        super().__init__()
        self.runs, self.races = 0, races
        self.components["transformer"] = torch.nn.Sequential(self.network, torch.nn.Linear(192, 192))

    def __call__(self, prompt="", seed=0, negative_prompt=""):
        self.runs += 1
        late = self.components["transformer"][1]
        latents, positive = self.start(seed), self.embeds(prompt, negative_prompt)[0]
        for step in range(5):
            own = late.weight
            if self.races and step == self.runs % 5:
                late.forward = lambda x: torch.nn.functional.linear(x, self.network.weight, late.bias)
            prediction = self.components["transformer"]((latents + positive).flatten(1)).reshape(1, 4, 48)
            late.__dict__.pop("forward", None)
            assert late.weight is own
            latents = latents + 0.1 * whydiff.tap("noise_pred", prediction, step=step)
        return picture(latents)


class WritesIntoItsSample(Side):
    """The start of a seed is kept, and the sampler writes into it."""

    def __init__(self, copies=False):
        super().__init__()
        self.kept, self.copies = {}, copies

    def __call__(self, prompt="", seed=0, negative_prompt=""):
        if seed not in self.kept:
            self.kept[seed] = torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(seed))
        held = self.kept[seed].clone() if self.copies else self.kept[seed]
        latents, positive = whydiff.tap("initial_latents", held), self.embeds(prompt, negative_prompt)[0]
        for step in range(3):
            latents += self.network((latents + positive).flatten(1)).reshape(1, 4, 48)
            whydiff.tap("latents", latents, step=step)
        return picture(latents)


def both_ways(healthy, faulty, **call):
    """The only cause with the fault on either side; its `departs` is that side."""
    found = []
    for role in ("reference", "candidate"):
        sides = {"reference": healthy(), "candidate": healthy()} | {role: faulty()}
        cause = only_cause(whydiff.diagnose(**sides, call=CALL | call))
        assert cause.departs == role, cause
        found.append(cause.id)
    assert found[0] == found[1]
    return found[0]


def test_a_step_cache_that_is_used_up_by_the_first_request():
    assert both_ways(SkipsInEach, SkipsInItsFirstRequest) == "cache-spent-state"


def test_a_start_that_the_sampler_wrote_into_is_a_shared_sample_although_no_two_runs_agree():
    assert both_ways(lambda: WritesIntoItsSample(copies=True), WritesIntoItsSample) == "shared-sample-object"


def test_a_layer_that_sometimes_has_its_neighbours_weights_is_a_race():
    for role in ("reference", "candidate"):
        sides = {"reference": RacesForItsWeights(False), "candidate": RacesForItsWeights(False)} | {role: RacesForItsWeights()}
        verdict = whydiff.diagnose(**sides, call=CALL)
        assert [(c.id, c.departs, c.module) for c in verdict.causes] == [("offload-stream-race", role, "transformer/1")], verdict
        assert verdict.first_divergence["stage"] == "state_leakage" and verdict.unexplained == []


def test_embeddings_of_a_request_before_the_first_are_found_by_another_spelling():
    for role in ("reference", "candidate"):
        sides = {"reference": Side(), "candidate": Side()} | {role: KeepsAnEarlierNegative()}
        verdict = whydiff.diagnose(**sides, call=CALL | {"negative_prompt": "grey"})
        assert [(c.id, c.departs) for c in verdict.causes] == [("stale-prompt-cache", role)] and verdict.unexplained == [], verdict


def test_embeddings_that_the_caller_hands_over_are_not_stale():
    class Takes(Side):
        def __call__(self, prompt_embeds=None, seed=0):
            latents = self.start(seed)
            positive = whydiff.tap("prompt_embeds", prompt_embeds)
            negative = whydiff.tap("negative_prompt_embeds", embed(""))
            latents = latents + whydiff.tap("noise_pred", self.network((positive - negative).flatten(1)).reshape(1, 4, 48), step=0)
            return picture(latents)

    calls = {"reference": {"prompt_embeds": embed(CALL["prompt"]), "seed": 0}, "candidate": dict(CALL)}
    verdict = whydiff.diagnose(reference=Takes(), candidate=Side(), call=calls)
    assert verdict.verdict == "same" and verdict.causes == [], verdict


def test_results_that_differ_by_more_than_rounding_from_run_to_run_are_a_difference():
    class ByChance(Side):
        state = torch.Generator().manual_seed(1)

        def embeds(self, prompt, negative_prompt):
            positive, negative = super().embeds(prompt, negative_prompt)
            return positive + 0.2 * torch.randn(positive.shape, generator=self.state), negative

        def __call__(self, prompt="", seed=0, negative_prompt=""):
            positive, negative = self.embeds(prompt, negative_prompt)
            latents = self.start(seed)
            latents = latents + whydiff.tap("noise_pred", self.network((positive - negative).flatten(1)).reshape(1, 4, 48), step=0)
            return picture(latents)

    verdict = diagnosed(ByChance())
    assert verdict.verdict == "different" and verdict.causes == [] and verdict.first_divergence["stage"] == "state_leakage", verdict
