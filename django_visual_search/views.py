"""The photo search page, for shops without one of their own, and the base class for a shop's own page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from rest_framework.request import Request

from .api.bodies import Refused, check_photo_length
from .api.throttles import PhotoThrottle, SimilarThrottle, VisualSearchThrottle
from .fields import EmbeddingField
from .images import Box, ImageRefused, Photo, read_picture
from .search import SearchResults, TextUnavailable
from .spaces.extractors import extractor_of
from .storefront import HandleExpired, handle_of, search_by_handle, search_by_photo
from .storefront.browsing import PageOptions, PhotoPage, photo_arguments, read_options
from .storefront.forms import PhotoSearchForm, photo_form_context, photo_search_field, photo_search_url
from .storefront.gate import photo_slot
from .storefront.refusals import PHOTO_ERRORS, Refusal, refusal_of, throttled
from .storefront.uploads import drain, keep_in_memory


@method_decorator(csrf_exempt, name="dispatch")  # checked once the length is known: the check reads the body
class PhotoSearchView(View):
    """Show the form and, after a POST of ``image`` or for the ``handle`` of one, the products that look like it.

    Status 422, with the reason, refuses a photo, 413 a request too long to be read, 410 a handle that doesn't hold.
    With Retry-After, 429 is for a visitor who sent too many (the rates "photo" and "similar" of ``THROTTLE_RATES``,
    shared with the API), 503 for a process whose slots are taken or whose extractor can't run.
    """

    label = ""
    """The products' model, ``app.Model``."""
    template_name = "visual_search/photo_search.html"
    http_method_names = ["get", "head", "post", "options"]

    def get_within(self) -> Any:
        """Return the queryset of products to stay in; its ``select_related`` saves cards their queries."""
        return None

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """Return the template's context: ``form``, ``action``, ``found`` (None without a search) and the cards."""
        return context

    def get_action(self) -> str:
        """Return the URL of this page."""
        return self.request.path

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if not self.label:
            raise ImproperlyConfigured(f"{type(self).__name__}: set label to the products' model, 'app.Model'.")
        self.field: EmbeddingField = photo_search_field(self.label)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        try:
            check_photo_length(request)
            keep_in_memory(request)
            response: HttpResponse = self._checked(request, *args, **kwargs)
        except Refused as refused:
            form = PhotoSearchForm({}, {})
            form.errors.clear()
            form.add_error("image", str(refused.detail["detail"]))  # type: ignore[call-overload, index]
            response = self._page(form, status=refused.status_code)
        if response.status_code >= 400:
            drain(request)
        return response

    @method_decorator(csrf_protect)
    def _checked(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        options = read_options(request.GET, self.field.product_model)
        if not options.handle:
            return self._page(PhotoSearchForm())
        return self._answer(PhotoSearchForm(), SimilarThrottle(), options, lambda: self._by_handle(options))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = PhotoSearchForm(request.POST, request.FILES)
        if not form.is_valid():
            return self._page(form, status=422)
        options = replace(read_options(request.GET, self.field.product_model), handle="", pages=1)
        if text := form.cleaned_data["text"]:
            options = replace(options, text=text)
        return self.answer_photo(form.cleaned_data["image"], form, options, form.cleaned_data["crop"])

    def answer_photo(
        self,
        photo: Photo,
        form: PhotoSearchForm | None = None,
        options: PageOptions | None = None,
        crop: Box | None = None,
    ) -> HttpResponse:
        """Return the page of a photo's hits, or of why there are none. ``photo``: uploaded, or a file of the shop."""
        asked = options or PageOptions()
        search = partial(self._by_photo, photo, crop, asked)
        return self._answer(form or PhotoSearchForm(), PhotoThrottle(), asked, search)

    def _answer(
        self,
        form: PhotoSearchForm,
        throttle: VisualSearchThrottle,
        options: PageOptions,
        search: Callable[[], SearchResults],
    ) -> HttpResponse:
        if (refusal := self._throttled(throttle)) is not None:
            form.add_error_of_page(refusal.sentence)
            return self._page(form, status=refusal.status, retry_after=refusal.retry_after)
        try:
            results = search()
        except (*PHOTO_ERRORS, TextUnavailable) as error:
            refusal = refusal_of(error)
            form.add_error_of_page(refusal.sentence, "image" if isinstance(error, ImageRefused) else None)
            expired = isinstance(error, HandleExpired)
            return self._page(form, status=refusal.page_status, retry_after=refusal.retry_after, expired=expired)
        handle = options.handle or handle_of(results, self.request)
        options = replace(options, handle=handle)
        found = PhotoPage(results, options, self.field, self.get_action(), self.request, self.get_within())
        return self._page(form, found=found)

    def _by_handle(self, options: PageOptions) -> SearchResults:
        how = {**photo_arguments(options), "options": [options.order, "any" if options.anything else ""]}
        how["options"] = [option for option in how["options"] if option]
        return search_by_handle(options.handle, self.field.label, self.request, within=self.get_within(), **how)

    def _by_photo(self, photo: Photo, crop: Box | None, options: PageOptions) -> SearchResults:
        read = read_picture(photo, extractor_of(self.field).spec.images.max_bytes)
        how = {**photo_arguments(options), "crop": crop, "within": self.get_within()}
        with photo_slot(request=self.request):
            return search_by_photo(read, self.field.label, self.request, **how)

    def _page(
        self,
        form: PhotoSearchForm,
        *,
        found: PhotoPage | None = None,
        status: int = 200,
        retry_after: int | None = None,
        expired: bool = False,
    ) -> HttpResponse:
        context = {
            **photo_form_context(self.label, self.get_action()),
            "form": form,
            "found": found,
            "expired": expired,
            "results": found and found.results,
            "cards": found and found.cards,
            "same_cards": found and found.same,
            "similar_cards": found and found.similar,
        }
        response = render(self.request, self.template_name, self.get_context_data(**context), status=status)
        if retry_after is not None:
            response["Retry-After"] = str(retry_after)
        if found is not None:
            patch_cache_control(response, private=True)
        return response

    def _throttled(self, throttle: VisualSearchThrottle) -> Refusal | None:
        """Return None where the visitor may search now."""
        api_request = Request(self.request)
        if user := getattr(self.request, "user", None):
            api_request.user = user
        if throttle.allow_request(api_request, None):
            return None
        return throttled(throttle.kind, throttle.wait())


class ModelPhotoSearchView(PhotoSearchView):
    """The page of the model in the URL. 404: no field searches by photos for it."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.label = f"{kwargs['app_label']}.{kwargs['model_name']}"
        try:
            super().setup(request, *args, **kwargs)
        except LookupError as e:
            raise Http404(str(e)) from e

    def get_action(self) -> str:
        return photo_search_url(self.field.product_model)


photo_search = ModelPhotoSearchView.as_view()
