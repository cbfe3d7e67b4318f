"""Each ranker by itself: bounds, stability, no candidate lost or doubled."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_visual_search.conf import conf
from django_visual_search.feedback.events import NETWORK_PRODUCT_SESSIONS, PRODUCT_GAIN
from django_visual_search.ranking import diversity, feedback, merchandise, mmr
from django_visual_search.ranking.rankers import ONE_NETWORK, opinions
from django_visual_search.ranking.types import SAME, Candidate, RankingContext, Rule

METRICS = ["cosine", "l2", "ip"]
COUNTS = st.floats(0, 1000) | st.just(0.0)
# A return can make the gain of a hit negative.
EVIDENCE = st.tuples(st.floats(-10, 500) | st.just(0.0), COUNTS)


def candidate(pk, distance, metric="cosine", **known):
    """A candidate whose unit vector lies at this cosine distance from the query."""
    asked = {"cosine": distance, "l2": math.sqrt(2 * distance), "ip": distance - 1}[metric]
    score = {"cosine": 1 - distance, "l2": 1 / (1 + asked), "ip": 1 - distance}[metric]
    return Candidate(pk, pk, None, asked, score, score, **known)


def context(*rules, metric="cosine", query_id="q", limit=12):
    return RankingContext(SimpleNamespace(metric=metric), query_id, limit, rules)


@st.composite
def neighbours(draw, metric="cosine", evidence=EVIDENCE):
    distances = sorted(draw(st.lists(st.floats(0, 2), max_size=25)))
    return [candidate(i, d, metric, pair=draw(evidence), alone=draw(evidence)) for i, d in enumerate(distances)]


def keys(candidates):
    return [c.product_pk for c in candidates]


def in_order(candidates):
    scores = [c.score for c in candidates]
    return scores == sorted(scores, reverse=True)


class TestFeedback:
    @given(neighbours(), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
    def test_no_hit_is_passed_by_one_that_is_much_farther(self, given_, weight):
        conf.__dict__["FEEDBACK_WEIGHT"] = weight
        try:
            order = feedback(list(given_), context())
        finally:
            del conf.__dict__["FEEDBACK_WEIGHT"]
        assert sorted(keys(order)) == keys(given_)
        assert in_order(order)
        farthest = 0.0
        for hit in order:
            distance = max(SAME, hit.distance)
            assert farthest <= distance * (1 + weight) / (1 - weight) * (1 + 1e-9)
            farthest = max(farthest, distance)

    def test_the_bound_is_reached(self):
        """At both ends: the bound of the docstring is tight."""
        loved, hated = {"alone": (1e9, 1e9), "pair": (1e9, 1e9)}, {"alone": (0.0, 1e9), "pair": (0.0, 1e9)}
        average = [candidate(i, 1.9, alone=(1e5, 1e9)) for i in range(2, 1000)]
        for ratio, passed in ((2.9, True), (3.1, False)):
            near, far = candidate(0, 0.1, **hated), candidate(1, 0.1 * ratio, **loved)
            order = feedback([near, far, *average], context())
            assert (order.index(far) < order.index(near)) == passed

    @given(st.data(), st.integers(0, 24), st.floats(0, 300))
    def test_more_gain_never_lowers_a_hit(self, data, chosen, more):
        honest = st.tuples(st.floats(0, 500), COUNTS)
        given_ = data.draw(neighbours(evidence=honest))
        if not given_:
            return
        chosen %= len(given_)
        for c in given_:  # what happened for this query happened
            c.alone = (c.alone[0] + c.pair[0], c.alone[1] + c.pair[1])
        scores = [c.score for c in given_]
        before = keys(feedback(list(given_), context())).index(chosen)
        for c, score in zip(given_, scores, strict=True):
            c.score = score
        hit = given_[chosen]
        hit.pair, hit.alone = (hit.pair[0] + more, hit.pair[1]), (hit.alone[0] + more, hit.alone[1])
        assert keys(feedback(list(given_), context())).index(chosen) <= before

    @given(neighbours(evidence=st.just((0.0, 0.0))), st.sampled_from(METRICS))
    def test_without_evidence_nothing_changes(self, given_, metric):
        before = [(c.product_pk, c.score, list(c.reasons)) for c in given_]
        assert [(c.product_pk, c.score, c.reasons) for c in feedback(given_, context(metric=metric))] == before

    @given(st.lists(st.tuples(st.floats(0.01, 2), EVIDENCE, EVIDENCE), min_size=1, max_size=20))
    def test_the_metric_does_not_matter_for_unit_vectors(self, rows):
        rows.sort(key=lambda row: row[0])
        found = []
        for metric in METRICS:
            given_ = [candidate(i, d, metric, pair=pair, alone=alone) for i, (d, pair, alone) in enumerate(rows)]
            feedback(given_, context(metric=metric))
            back = {"l2": lambda s: (1 / s - 1) ** 2 / 2}.get(metric, lambda s: 1 - s)
            found.append([back(c.score) for c in given_])
        assert found[0] == pytest.approx(found[1], rel=1e-6)
        assert found[0] == pytest.approx(found[2], rel=1e-6)

    def test_long_vectors_by_inner_product(self):
        """Inner products far above 1: the largest is at distance 0, the others at the difference to it."""
        given_ = [Candidate(i, i, None, -p, p, p) for i, p in enumerate([250.0, 240.0, 235.0, 100.0])]
        given_[1].alone = (0.0, 400.0)
        given_[2].alone = given_[3].alone = (50.0, 50.0)
        order = feedback(given_, context(metric="ip"))
        assert keys(order) == [0, 2, 1, 3]
        assert in_order(order)

    def test_reasons_go_to_those_that_moved_by_their_own_evidence(self):
        given_ = [
            candidate(0, 0.10, alone=(0.0, 100.0)),
            candidate(1, 0.11),
            candidate(2, 0.12, alone=(40.0, 100.0)),
            candidate(3, 0.60, alone=(40.0, 100.0)),
        ]
        order = feedback(given_, context())
        assert keys(order) == [2, 1, 0, 3]
        assert [c.reasons for c in order] == [["visual", "feedback"], ["visual"], ["visual", "disliked"], ["visual"]]

    def test_one_picture_of_several_products_is_ordered_by_feedback(self):
        given_ = [candidate(i, d) for i, d in enumerate([0.0, 1e-7, 2e-7])]
        given_[2].alone = (30.0, 100.0)
        assert keys(feedback(given_, context())) == [2, 0, 1]

    @given(st.lists(st.tuples(EVIDENCE, EVIDENCE), max_size=20))
    def test_opinions_are_bounded(self, rows):
        given_ = [candidate(i, 1, pair=pair, alone=alone) for i, (pair, alone) in enumerate(rows)]
        assert all(-1 <= u <= 1 for u in opinions(given_))

    def test_a_single_click_says_little(self):
        given_ = [candidate(i, 0.1, alone=(10.0, 100.0)) for i in range(20)]
        given_[5] = candidate(5, 0.1, alone=(11.0, 100.5), pair=(1.0, 0.5))
        given_[6] = candidate(6, 0.1, alone=(110.0, 200.0), pair=(100.0, 100.0))
        given_[7] = candidate(7, 0.1, alone=(13.0, 100.0))
        single, many, elsewhere = opinions(given_)[5:8]
        assert 0 < single < 0.4
        assert many > 0.7
        assert elsewhere == pytest.approx(0, abs=1e-3)
        assert ONE_NETWORK == NETWORK_PRODUCT_SESSIONS * PRODUCT_GAIN

    def test_evidence_elsewhere_counts_where_there_is_none_for_the_query(self):
        given_ = [candidate(i, 0.1, alone=(10.0, 100.0)) for i in range(20)]
        given_[5].alone = (40.0, 100.0)
        given_[6].alone, given_[6].pair = (40.0, 100.0), (0.0, 60.0)
        liked, liked_elsewhere_only = opinions(given_)[5:7]
        assert liked == pytest.approx(0.37, abs=0.005)
        assert liked_elsewhere_only < -0.1


def rule(kind, product_pk, slot=None, factor=1.2, query_id=""):
    return Rule(kind, product_pk, query_id, slot, factor)


def merchandised(*rules, count=6, outside=()):
    given_ = [candidate(i, 0.1 + 0.05 * i) for i in range(count)]
    given_ += [candidate(i, 1.5, pinned=True) for i in outside]
    return merchandise(given_, context(*rules))


class TestMerchandise:
    @pytest.mark.parametrize(
        ("rules", "wanted"),
        [
            ([], [0, 1, 2, 3, 4, 5]),
            ([rule("pin", 4, 1)], [4, 0, 1, 2, 3, 5]),
            ([rule("pin", 0, 3)], [1, 2, 0, 3, 4, 5]),
            ([rule("pin", 0, 99)], [1, 2, 3, 4, 5, 0]),
            ([rule("pin", 4, 1), rule("pin", 5, 1)], [4, 5, 0, 1, 2, 3]),
            ([rule("pin", 5, 1), rule("pin", 4, 1)], [5, 4, 0, 1, 2, 3]),
            ([rule("pin", 3, 1), rule("pin", 4, 1), rule("pin", 5, 2)], [3, 5, 4, 0, 1, 2]),
            ([rule("pin", 4, 1), rule("pin", 5, 1, query_id="q")], [5, 4, 0, 1, 2, 3]),
            ([rule("pin", 4, 2), rule("pin", 4, 5)], [0, 4, 1, 2, 3, 5]),
            ([rule("pin", 4, 1), rule("pin", 4, 3, query_id="q")], [0, 1, 4, 2, 3, 5]),
            ([rule("pin", 4, 1), rule("hide", 4, query_id="q")], [0, 1, 2, 3, 5]),
            ([rule("hide", 4), rule("pin", 4, 1, query_id="q")], [4, 0, 1, 2, 3, 5]),
            ([rule("hide", 4), rule("pin", 4, 1)], [0, 1, 2, 3, 5]),
            ([rule("hide", 4, query_id="other")], [0, 1, 2, 3, 4, 5]),
            ([rule("hide", 99), rule("pin", 98, 1)], [0, 1, 2, 3, 4, 5]),
            ([rule("boost", 3, factor=2.0)], [0, 3, 1, 2, 4, 5]),
            ([rule("boost", 0, factor=0.5)], [1, 0, 2, 3, 4, 5]),
            ([rule("boost", 3, factor=2.0), rule("boost", 3, factor=1.0)], [0, 1, 2, 3, 4, 5]),
            ([rule("boost", 3, factor=2.0), rule("boost", 3, factor=0.5, query_id="q")], [0, 1, 2, 4, 5, 3]),
            ([rule("boost", 3, factor=2.0), rule("pin", 3, 6)], [0, 1, 2, 4, 5, 3]),
        ],
    )
    def test_rules(self, rules, wanted):
        assert keys(merchandised(*rules)) == wanted

    def test_candidates_that_only_a_pin_names(self):
        assert keys(merchandised(rule("pin", 9, 2), outside=[9])) == [0, 9, 1, 2, 3, 4, 5]
        assert keys(merchandised(outside=[9])) == [0, 1, 2, 3, 4, 5]
        for kind in ("boost", "hide"):
            order = merchandised(rule("pin", 9, 2), rule(kind, 9, query_id="q"), outside=[9])
            assert keys(order) == [0, 1, 2, 3, 4, 5]

    def test_reasons(self):
        order = merchandised(
            rule("pin", 5, 1), rule("boost", 1), rule("boost", 2, factor=0.8), rule("boost", 3, factor=1.0)
        )
        reasons = {c.product_pk: c.reasons[1:] for c in order}
        assert reasons == {5: ["pinned"], 1: ["boosted"], 2: ["lowered"], 0: [], 3: [], 4: []}

    def test_a_boost_adds_to_feedback(self):
        given_ = [candidate(0, 0.1), candidate(1, 0.11), candidate(2, 0.2, alone=(50.0, 50.0)), candidate(3, 0.9)]
        given_[3].alone = (0.0, 500.0)
        liked = feedback(given_, context())
        assert keys(liked) == [0, 1, 2, 3]
        both = merchandise(liked, context(rule("boost", 2, factor=1.9)))
        assert keys(both) == [2, 0, 1, 3]
        assert both[0].reasons == ["visual", "boosted"]

    @given(
        st.integers(0, 15),
        st.lists(
            st.builds(
                rule,
                st.sampled_from(["pin", "boost", "hide"]),
                st.integers(0, 19),
                st.integers(1, 20),
                st.floats(0.5, 2),
                st.sampled_from(["", "q"]),
            ),
            max_size=20,
        ),
    )
    def test_none_is_lost_or_doubled_and_pins_keep_their_slots(self, count, rules):
        named = {r.product_pk for r in rules if r.kind == "pin"}
        outside = [pk for pk in sorted(named) if pk >= count]
        order = keys(merchandised(*rules, count=count, outside=outside))
        counts = {pk: [r for r in rules if r.product_pk == pk and r.query_id] for pk in range(20)}
        counts = {pk: mine or [r for r in rules if r.product_pk == pk] for pk, mine in counts.items()}
        hidden = {pk for pk, mine in counts.items() if any(r.kind == "hide" for r in mine)}
        pinned = {pk for pk, mine in counts.items() if any(r.kind == "pin" for r in mine)} - hidden
        assert sorted(order) == sorted((set(range(count)) | (set(outside) & pinned)) - hidden)
        wanted = {pk: min(r.slot for r in counts[pk] if r.kind == "pin") for pk in pinned & set(order)}
        for pk, slot in wanted.items():
            if list(wanted.values()).count(slot) == 1 and slot <= len(order) - len(wanted):
                assert order.index(pk) == slot - 1


def brute_force_mmr(relevance, vectors, balance):
    order = []
    while len(order) < len(vectors):
        value = {
            i: balance * relevance[i]
            - (1 - balance) * max([max(0.0, float(vectors[i] @ vectors[j])) for j in order] or [0])
            for i in range(len(vectors))
            if i not in order
        }
        order.append(max(value, key=lambda i: (value[i], -i)))
    return order


class TestDiversity:
    def near(self, count, groups=4, seed=0):
        """Candidates around a query in groups of near-duplicates, best first."""
        rng = np.random.default_rng(seed)
        query = rng.standard_normal(32)
        centres = query + rng.standard_normal((groups, 32))
        vectors = np.repeat(centres, count // groups, axis=0) + 0.02 * rng.standard_normal((count, 32))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        relevance = vectors @ query / np.linalg.norm(query)
        order = np.argsort(-relevance)
        group = (order // (count // groups)).tolist()
        found = [candidate(i, float(1 - relevance[j]), vector=vectors[j].tolist()) for i, j in enumerate(order)]
        return found, group

    def test_duplicates_are_spread(self):
        given_, group = self.near(24)
        assert len({group[pk] for pk in keys(given_)[:6]}) == 1
        order = diversity(list(given_), context())
        assert len({group[pk] for pk in keys(order)[:6]}) == 4
        assert order[0] is given_[0]
        assert sorted(keys(order)) == keys(given_)
        assert in_order(order)
        assert any("diverse" in c.reasons for c in order[:4])
        assert "diverse" not in order[0].reasons

    @pytest.mark.parametrize("balance", [0.2, 0.5, 0.7, 1])
    @pytest.mark.parametrize("seed", range(5))
    def test_is_maximal_marginal_relevance(self, balance, seed):
        given_, _ = self.near(20, seed=seed)
        relevance, vectors = [c.score for c in given_], [np.array(c.vector) for c in given_]
        wanted = brute_force_mmr(relevance, vectors, balance)
        order = keys(mmr(balance)(given_, context()))
        assert order == wanted
        if balance == 1:
            assert order == list(range(20))

    def test_a_boost_afterwards_keeps_the_spread(self):
        given_, _ = self.near(24)
        spread = keys(diversity(given_, context()))
        again = merchandise(diversity(self.near(24)[0], context()), context(rule("boost", spread[9], factor=1.01)))
        assert [pk for pk in keys(again) if pk != spread[9]] == [pk for pk in spread if pk != spread[9]]

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_few_candidates(self, count):
        given_ = [candidate(i, 0.1 * i, vector=[0.0, 0.0]) for i in range(count)]
        assert keys(diversity(given_, context())) == list(range(count))

    @pytest.mark.parametrize("balance", [0, -1, 1.5, math.nan])
    def test_a_balance_out_of_bounds_is_refused(self, balance):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            mmr(balance)


def test_needs():
    needs = [set(ranker.needs) for ranker in (feedback, merchandise, diversity, mmr(0.5))]
    assert needs == [{"evidence"}, {"rules"}, {"vectors"}, {"vectors"}]
