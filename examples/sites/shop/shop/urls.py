from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import path


def start(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f'<link rel="stylesheet" href="{static("shop.css")}"><h1>The shop</h1>')


urlpatterns = [path("", start)]
