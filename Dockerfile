# The static binary and nothing else: make build && docker build -t tidewater .
# A bucket behind https needs roots: mount /etc/ssl/certs of the host.
FROM scratch
COPY bin/tidewater /tidewater
WORKDIR /data
VOLUME /data
# Kafka, admin (health, metrics), Iceberg REST catalog, between brokers, development store
EXPOSE 9092 9644 8181 33145 9000
ENTRYPOINT ["/tidewater"]
CMD ["broker"]
