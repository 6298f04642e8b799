"""The pages of chapters 3 to 5: those that need no long training reach their ranges; the others run, small and fast."""

from __future__ import annotations

import pytest

import defnpy as dp
from book_chapters import options
from book_chapters.ch03.neuralnet_mnist import OUR_WEIGHTS, init_network, predict
from book_chapters.ch05 import buy_apple, buy_apple_orange
from book_chapters.common.data import book_weights, load_npz
from book_chapters.pages import Page, discover
from book_chapters.runner import execute

PAGES = {page.name: page for page in discover() if page.chapter in ("ch03", "ch04", "ch05")}
EXACT = (
    "ch03.mnist_show",
    "ch03.relu",
    "ch03.sig_step_compare",
    "ch03.sigmoid",
    "ch03.step_function",
    "ch03.three_layers",
    "ch04.gradient_1d",
    "ch04.gradient_2d",
    "ch04.gradient_method",
    "ch04.gradient_simplenet",
    "ch04.losses",
    "ch05.buy_apple",
    "ch05.buy_apple_orange",
    "ch05.gradient_check",
    "ch05.layer_naive",
)
TRAINED = ("ch03.train_weights", "ch04.train_neuralnet", "ch05.train_neuralnet")


def quick(page: Page, **given: object) -> dict[str, float]:
    module = page.load()
    return execute(page.name, module.main, options.settings(module, given, quick=True), quick=True).figures


@pytest.mark.parametrize("name", EXACT)
def test_a_page_reaches_its_ranges(name: str) -> None:
    figures = quick(PAGES[name])
    for acceptance in PAGES[name].load().ACCEPTANCE:
        assert acceptance.met(figures.get(acceptance.figure)), f"{acceptance.figure}: {figures}"


def test_training_goes_down_from_log_10() -> None:
    for name in TRAINED:
        figures = quick(PAGES[name], iters=101)
        assert 0.3 < figures["loss of the last 100"] < 2.3, name


@pytest.mark.parametrize("name", ["ch03.neuralnet_mnist", "ch03.neuralnet_mnist_batch", "ch04.numerical_cost"])
def test_a_page_that_measures_runs(name: str) -> None:
    figures = quick(PAGES[name])
    if name == "ch04.numerical_cost":
        assert figures["evaluations"] == 79_520 and figures["b2 numerical against the formula"] < 3e-8
    else:
        assert figures["accuracy with our weights"] > 0.95


def test_every_page_is_tested() -> None:
    assert set(PAGES) == {*EXACT, *TRAINED, "ch03.neuralnet_mnist", "ch03.neuralnet_mnist_batch", "ch04.numerical_cost"}


@pytest.mark.skipif(book_weights("ch03_sample_weight.npz") is None, reason="the book's own weights are not here")
@pytest.mark.parametrize("given", [{}, {"dtype": "f64"}, {"backend": "reference"}])
def test_the_books_weights_give_exactly_9352(given: dict[str, str]) -> None:
    module = PAGES["ch03.neuralnet_mnist_batch"].load()
    figures = execute("planted", module.main, options.own(module), **given).figures
    assert figures["accuracy with the book's weights"] == 0.9352
    assert figures["accuracy with our weights"] == 0.9682


def test_our_weights_tell_how_they_were_made() -> None:
    arrays = load_npz(OUR_WEIGHTS)
    assert str(arrays["command"]) == "python -m book_chapters.ch03.train_weights --seed 0 --iters 6000"
    assert predict(init_network(OUR_WEIGHTS), dp.zeros(784)).shape == (10,)


def test_apples_are_a_graph_of_two_products() -> None:
    text = str(buy_apple.price.expr(*[dp.asarray(100.0)] * 3))
    assert "a = multiply apple number" in text and "b = multiply a tax" in text
    fruit = str(buy_apple_orange.price.expr(*[dp.asarray(100.0)] * 5))
    assert fruit.count(" = ") == 4 and "c = add a b" in fruit
