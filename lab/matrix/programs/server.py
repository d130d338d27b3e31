"""What a Python program with threads asks of its interpreter and of the kernel. It answers every line on TCP with "ok", or with
what is not as it should be."""

import os
import socketserver
import subprocess
import threading
import time

PORT = 7072
beats = [0, 0, 0]
kept = {number: os.urandom(16).hex() for number in range(10000)}
first = dict(kept)
last = time.monotonic()


def beat(number):
    while True:
        os.urandom(16)
        beats[number] += 1
        time.sleep(0.001)


def goes_on():
    before = list(beats)
    for _ in range(2000):
        if all(now > then + 1 for now, then in zip(beats, before)):
            return
        time.sleep(0.01)
    raise RuntimeError("a thread stands still")


def check():
    global last
    goes_on()
    result = []
    thread = threading.Thread(target=lambda: result.append(os.urandom(16)))
    thread.start()
    thread.join()
    if len(result) != 1 or not any(result[0]):
        raise RuntimeError("a new thread drew no numbers")
    if subprocess.run(["/bin/sh", "-c", "echo here"], capture_output=True, text=True, check=True).stdout != "here\n":
        raise RuntimeError("a child did not answer")
    if kept != first:
        raise RuntimeError("its memory is another")
    now = time.monotonic()
    if now < last:
        raise RuntimeError("the monotonic clock went back")
    last = now


class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            try:
                check()
                self.wfile.write(b"ok\n")
            except Exception as wrong:
                self.wfile.write(f"{wrong}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


for number in range(len(beats)):
    threading.Thread(target=beat, args=(number,), daemon=True).start()
Server(("0.0.0.0", PORT), Answer).serve_forever()
