"""Routes and views of the Django project."""

import hashlib
import json

from django.contrib import admin
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def index(request):
    return HttpResponse("hello from django")


def hello(request, name):
    return JsonResponse({"name": name, "query": request.GET.get("q"), "client": request.META["REMOTE_ADDR"]})


@csrf_exempt
def form(request):
    return JsonResponse(dict(request.POST.lists()))


@csrf_exempt
def json_view(request):
    return JsonResponse(json.loads(request.body), safe=False)


@csrf_exempt
def raw(request):
    return HttpResponse(hashlib.sha256(request.read()).hexdigest())


def token(request):
    return HttpResponse(get_token(request))


def _upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse(
        {
            "name": file.name,
            "bytes": file.size,
            "sha256": digest.hexdigest(),
            "on_disk": hasattr(file, "temporary_file_path"),
        }
    )


def protected_upload(request):
    return _upload(request)


@csrf_exempt
def upload(request):
    return _upload(request)


def login(request):
    request.session["user"] = request.GET["user"]
    return redirect("/who")


def who(request):
    return HttpResponse(request.session.get("user", "nobody"))


def stream(request):
    word = request.GET["word"]
    lines = (f"{word} {i}\n" for i in range(int(request.GET["n"])))
    return StreamingHttpResponse(lines, content_type="text/plain")


def file(request):
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")


def teapot(request):
    return HttpResponse("short and stout", status=418)


def boom(request):
    raise RuntimeError("boom of django")


urlpatterns = [
    path("", index),
    path("admin/", admin.site.urls),
    path("hello/<name>", hello),
    path("form", form),
    path("json", json_view),
    path("raw", raw),
    path("token", token),
    path("upload", upload),
    path("protected-upload", protected_upload),
    path("login", login),
    path("who", who),
    path("stream", stream),
    path("file", file),
    path("teapot", teapot),
    path("boom", boom),
]
