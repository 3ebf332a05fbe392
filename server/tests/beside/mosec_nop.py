"""The null model for mosec: bytes that come back, in batches."""

from mosec import Server, Worker


class Nop(Worker):
    def deserialize(self, data):
        return data

    def forward(self, data):
        return data

    def serialize(self, data):
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Nop, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
