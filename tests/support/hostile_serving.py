"""A server that answers as another one does, but for what it changes in the answers' bytes."""

import contextlib
import threading
import urllib.error
import urllib.request
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc


class HostileServing:
    """Stands before a `FakeServing`; `mangle` gets the last part of a method's name or path, and its answer's bytes."""

    def __init__(self, serving, compression=None):
        self.mangle = lambda method, answer: answer
        self._channel = grpc.insecure_channel(serving.grpc_address.removeprefix("grpc://"))
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)], compression=compression
        )
        self._grpc.add_generic_rpc_handlers((_GrpcFace(self),))
        self.grpc_address = f"grpc://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _rest_face(self, serving.rest_address))
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # clients that have enough go
        self.rest_address = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def address(self, transport):
        return self.grpc_address if transport == "grpc" else self.rest_address

    def forward(self, method, request):
        return self.mangle(method.rpartition("/")[2], self._channel.unary_unary(method)(request))

    def close(self):
        self._grpc.stop(0).wait()
        self._channel.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _GrpcFace(grpc.GenericRpcHandler):
    def __init__(self, hostile):
        self._hostile = hostile

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: self._hostile.forward(details.method, request))


def _rest_face(hostile, address):
    class Face(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self._answer(None)

        def do_POST(self):
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def _answer(self, body):
            try:
                with urllib.request.urlopen(urllib.request.Request(address + self.path, body)) as response:
                    answer, status = response.read(), 200
            except urllib.error.HTTPError as error:
                answer, status = error.read(), error.code
            answer = hostile.mangle(self.path.rpartition("/")[2], answer)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if isinstance(answer, bytes):
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):
                for chunk in answer:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    return Face
